// A performance report: one file that opens without a network. The data stands in the page as JSON.
import { render } from "preact";
import { asRow } from "../base/rows";
import { startTheme } from "../base/theme";
import { Report } from "./Report";
import "uplot/dist/uPlot.min.css";
import "../style/base.css";
import "../style/shell.css";
import "../style/parts.css";
import "../style/plots.css";

function data(): unknown {
  try {
    return JSON.parse(document.getElementById("rask-data")?.textContent ?? "null");
  } catch {
    return null;
  }
}

startTheme();
const root = document.getElementById("app");
if (root) render(<Report data={asRow(data())} />, root);
