import { byId } from "./dom.js";

// The day's verdicts, and the comparisons left for this annotator: as the server counted them, and what waits here.
export class Tally {
  today = Number(byId("tally").textContent);
  left = Number(byId("left")?.textContent);

  show(unsent) {
    byId("tally").textContent = this.today + unsent.filter(({ body }) => isVerdict(body)).length;
    if (byId("left")) byId("left").textContent = Math.max(0, this.left - unsent.length);
  }

  count({ body }) {
    if (isVerdict(body)) this.today += 1;
    this.left -= 1;
  }
}

const isVerdict = (body) => !["skip", "not_mine"].includes(body.get("verdict"));
