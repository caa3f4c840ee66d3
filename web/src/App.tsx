// Decides by the address what this is: the appliance's shell (the base itself) or a page of a cluster.
import { useEffect } from "preact/hooks";
import { base, place } from "./base/url";
import { askWhere, where } from "./base/where";
import { Appliance } from "./appliance/Appliance";
import { Cluster } from "./cluster/Cluster";
import { startFeed } from "./feed/feed";

let fed = false;

/** The shell above a cluster's page, if there is one: `clusters/NAME/` lies two folders below it. */
function shellAbove(): string | null {
  if (/\/clusters\/[^/]+\/$/.test(base().pathname)) return "../../";
  return where.value?.kind === "appliance" ? "./" : null;
}

function clusterName(): string {
  const found = /\/clusters\/([^/]+)\/$/.exec(base().pathname);
  return found?.[1]
    ? decodeURIComponent(found[1])
    : where.value?.kind === "cluster"
      ? where.value.name || "cluster"
      : "local";
}

/** Pages of the shell that no cluster has: known before the server has said what it is. */
const SHELL = /^(clusters|host|tokens|settings|history|peers)$/;

function isShell(page: string): boolean {
  if (/\/clusters\/[^/]+\/$/.test(base().pathname)) return false;
  const kind = where.value?.kind;
  return SHELL.test(page) || (page === "" ? kind !== "cluster" : kind === "appliance");
}

export function App() {
  const page = place.value.page;
  useEffect(() => {
    void askWhere();
  }, []);
  if (isShell(page)) return <Appliance />;
  // Both have a page of this name: wait for the server's word.
  if (page === "logs" && where.value === null) return null;
  if (!fed) {
    fed = true;
    startFeed();
  }
  return <Cluster page={page || "status"} name={clusterName()} shell={shellAbove()} />;
}
