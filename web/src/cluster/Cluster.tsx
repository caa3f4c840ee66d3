// A cluster's page: the right one for the address, in its frame or bare.
import { bytes, seconds } from "../base/format";
import { num, str } from "../base/rows";
import { overview } from "../feed/store";
import { Empty } from "../ui/Panel";
import { LimitLine, LinkState, LostNotice, Shell, type NavGroup } from "../ui/Shell";
import { Find } from "./find";
import { PANES } from "./panes";
import { ALIASES, PAGES } from "./pages";

interface ClusterProps {
  readonly page: string;
  readonly name: string;
  /** Where the appliance's shell is, if there is one. */
  readonly shell: string | null;
}

export function Cluster({ page, name, shell }: ClusterProps) {
  if (page.startsWith("individual-")) return <Bare page={page} />;
  const wanted = ALIASES[page] ?? page;
  const found = PAGES.find((one) => one.name === wanted);
  const Draw = found?.draw;
  const title = found?.title ?? "No such page";
  return (
    <Shell
      title={title}
      name={name}
      home={shell ?? "status"}
      groups={groups(wanted, shell)}
      line={
        <>
          <LimitLine />
          <Find />
        </>
      }
      foot={<Foot />}
    >
      <LostNotice />
      {Draw ? (
        <Draw key={wanted} />
      ) : (
        <Empty title={`There is no page "${page}"`}>
          <a href="status" data-go>
            To the status page
          </a>
        </Empty>
      )}
    </Shell>
  );
}

function groups(wanted: string, shell: string | null): NavGroup[] {
  const sections = [...new Set(PAGES.map((page) => page.section).filter((section) => section !== undefined))];
  const failed = num(overview(), "erred");
  const out: NavGroup[] = sections.map((section) => ({
    title: section,
    items: PAGES.filter((page) => page.section === section).map((page) => ({
      href: page.name,
      title: page.title,
      current: page.name === wanted,
      badge: page.name === "exceptions" && failed > 0 ? failed : undefined,
    })),
  }));
  if (shell)
    out.push({ title: "Appliance", items: [{ href: shell, title: "All clusters", current: false, leaves: true }] });
  return out;
}

function Foot() {
  const now = overview();
  if (!str(now, "version")) return null;
  return (
    <>
      <p>rask {str(now, "version")}</p>
      <p>{str(now, "address")}</p>
      <p>up {seconds(num(now, "uptime"))}</p>
      <p>
        {bytes(num(now, "scheduler_mem"))}, {num(now, "scheduler_cpu").toFixed(0)} % of a core
      </p>
    </>
  );
}

/** One plot alone, to be put into another page. */
function Bare({ page }: { page: string }) {
  const pane = PANES[page.slice("individual-".length)];
  const Draw = pane?.draw;
  return (
    <div class="bare">
      <main aria-label={pane?.title ?? page}>
        <h1 class="sr">{pane?.title ?? page}</h1>
        <LostNotice />
        <span class="sr">
          <LinkState />
        </span>
        {Draw ? (
          <Draw />
        ) : (
          <Empty title={`There is no plot "${page}"`}>individual-plots.json lists all there are.</Empty>
        )}
      </main>
    </div>
  );
}
