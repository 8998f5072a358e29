"""Views: parse a request, call a function of the domain, render a page or a fragment."""
