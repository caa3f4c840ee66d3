// Starts the page, or, loaded as a worker, the layout of graphs: one file, so that the server has one script to serve.
import { render } from "preact";
import { startTheme } from "./base/theme";
import { startRouter } from "./base/url";
import { App } from "./App";
import { serveLayouts } from "./plots/layout";
import "uplot/dist/uPlot.min.css";
import "./style/base.css";
import "./style/shell.css";
import "./style/parts.css";
import "./style/plots.css";

if (typeof document === "undefined") {
  serveLayouts();
} else {
  startTheme();
  startRouter();
  const root = document.getElementById("app");
  if (root) {
    root.textContent = "";
    render(<App />, root);
  }
}
