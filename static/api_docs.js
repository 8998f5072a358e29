// The page of the API: Swagger UI, which is loaded before this, shows the schema.
// A signed-in browser may send requests from it with its session; they carry Django's CSRF token.

const place = document.querySelector("#api-docs");
const root = document.documentElement;

// Swagger UI has a dark look of its own, behind a class. The theme is the site's, or else the system's.
const system = matchMedia("(prefers-color-scheme: dark)");
const paint = () => {
  const theme = root.dataset.theme ?? (system.matches ? "dark" : "light");
  root.classList.toggle("dark-mode", theme === "dark");
};
paint();
system.addEventListener("change", paint);
new MutationObserver(paint).observe(root, { attributeFilter: ["data-theme"] });

window.SwaggerUIBundle({
  url: place.dataset.schema,
  domNode: place,
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: -1,
  displayRequestDuration: true,
  persistAuthorization: false,
  validatorUrl: null,
  requestInterceptor: (request) => {
    request.headers["X-CSRFToken"] = place.dataset.csrf;
    return request;
  },
});
