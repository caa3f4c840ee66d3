//! `rask top`: what a cluster does, in the terminal. `q` ends it; without a terminal it prints once.

use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Gauge, Paragraph, Row, Table, Wrap};
use serde_json::Value as Json;

use super::pages::{Meant, PagesOf};
use crate::app::command_error::CommandError;
use crate::app::text::{out, printable_json};
use crate::base::COLUMN_CHARS_MAX;
use crate::clock::Clock;
use crate::config::show_size;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// Rows in the plain text.
const PLAIN_ROWS: usize = 50;

/// What is looked at.
const TOPICS: &str = "overview,workers,prefixes";

/// Shows a cluster until `q`; once, as text, if that is wanted or there is no terminal.
pub fn top(meant: &Meant, state: Option<&Path>, once: bool) -> Result<(), CommandError> {
    let pages = PagesOf::find(meant, state)?;
    let first = look(&pages)?;
    if once || !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        out(&plain(&first));
        return Ok(());
    }
    let mut terminal =
        ratatui::try_init().map_err(|why| CommandError::world(format!("cannot use the terminal: {why}")))?;
    let ended = show(&pages, &mut terminal, first);
    ratatui::restore();
    ended
}

fn look(pages: &PagesOf) -> Result<Seen, CommandError> {
    Ok(Seen::of(&printable_json(pages.ask("api/state", &[("topics", TOPICS)])?)))
}

fn show(pages: &PagesOf, terminal: &mut ratatui::DefaultTerminal, first: Seen) -> Result<(), CommandError> {
    let broken = |why: std::io::Error| CommandError::world(format!("the terminal: {why}"));
    let (mut seen, mut trouble) = (first, None);
    let clock = Clock::start();
    let mut looked = clock.now();
    let left = |looked| EVERY.saturating_sub(Duration::from_secs_f64(clock.now().secs_since(looked).max(0.0)));
    loop {
        terminal.draw(|frame| draw(frame, pages.base(), &seen, trouble.as_deref())).map_err(broken)?;
        // A key, a new size, or time for another look.
        if event::poll(left(looked)).map_err(broken)?
            && let Event::Key(key) = event::read().map_err(broken)?
            && key.kind != KeyEventKind::Release
            && (matches!(key.code, KeyCode::Char('q') | KeyCode::Esc)
                || key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL))
        {
            return Ok(());
        }
        if left(looked).is_zero() {
            match look(pages) {
                Ok(now) => (seen, trouble) = (now, None),
                // It may come back: the last picture stays, with a word on why it stands still.
                Err(why) => trouble = Some(why.to_string()),
            }
            looked = clock.now();
        }
    }
}

/// What is shown, read once.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    limit: String,
    problem: Option<String>,
    counts: Vec<(&'static str, u64)>,
    tasks_per_s: f64,
    cpu: (f64, f64),
    memory: (u64, u64),
    spilled: u64,
    workers: Vec<[String; 8]>,
    prefixes: Vec<[String; 7]>,
}

/// Columns of a name that tell it from others; columns of figures make room for them.
const NAME_LEAST: u16 = 24;
/// Between two columns.
const GAP: u16 = 2;

const WORKER_COLUMNS: [&str; 8] = ["worker", "status", "threads", "cpu %", "memory", "limit", "running", "queued"];
const PREFIX_COLUMNS: [&str; 7] = ["function", "done", "running", "waiting", "memory", "erred", "mean s"];

impl Seen {
    fn of(state: &Json) -> Self {
        let now = state.pointer("/overview/now").cloned().unwrap_or_default();
        let number = |name: &str| now.get(name).and_then(Json::as_f64).unwrap_or_default();
        let text = |path: &str| now.pointer(path).and_then(Json::as_str).map(str::to_owned);
        let names =
            ["workers", "threads", "clients", "processing", "queued", "waiting", "no_worker", "memory", "erred"];
        Self {
            limit: text("/limit/text").unwrap_or_default(),
            problem: text("/problem/text"),
            counts: names.iter().map(|name| (*name, number(name) as u64)).collect(),
            tasks_per_s: number("tasks_per_s"),
            cpu: (number("cpu"), number("cpu_max")),
            memory: (number("mem_process") as u64, number("mem_limit") as u64),
            spilled: number("mem_spilled") as u64,
            workers: workers(state.get("workers")),
            prefixes: prefixes(state.get("prefixes")),
        }
    }
}

fn workers(rows: Option<&Json>) -> Vec<[String; 8]> {
    let row = |(address, row): (&String, &Json)| {
        let number = |name: &str| row.get(name).and_then(Json::as_f64).unwrap_or_default();
        let text = |name: &str| row.get(name).and_then(Json::as_str).unwrap_or(address).to_owned();
        let limit = number("limit") as u64;
        [
            text("name"),
            text("status"),
            format!("{:.0}", number("nthreads")),
            format!("{:.0}", number("cpu")),
            show_size(number("memory") as u64),
            if limit == 0 { "-".to_owned() } else { show_size(limit) },
            format!("{:.0}", number("executing")),
            format!("{:.0}", (number("processing") - number("executing")).max(0.0)),
        ]
    };
    let mut all: Vec<_> = rows.and_then(Json::as_object).into_iter().flatten().map(row).collect();
    all.sort();
    all
}

fn prefixes(rows: Option<&Json>) -> Vec<[String; 7]> {
    let mut all: Vec<(f64, [String; 7])> = rows
        .and_then(Json::as_object)
        .into_iter()
        .flatten()
        .map(|(name, row)| {
            let number = |name: &str| row.get(name).and_then(Json::as_f64).unwrap_or_default();
            let open = number("processing") + number("waiting") + number("queued") + number("no_worker");
            let mean = row.get("duration").and_then(Json::as_f64).map_or("-".to_owned(), |secs| format!("{secs:.3}"));
            let whole = |number: f64| format!("{number:.0}");
            let shown = [
                name.clone(),
                whole(number("done")),
                whole(number("processing")),
                whole(number("waiting") + number("queued") + number("no_worker")),
                whole(number("memory")),
                whole(number("erred")),
                mean,
            ];
            (open, shown)
        })
        .collect();
    // What is at work first, then by name.
    all.sort_by(|left, right| right.0.total_cmp(&left.0).then_with(|| left.1.cmp(&right.1)));
    all.into_iter().map(|(_, row)| row).collect()
}

// ---- plain text -----------------------------------------------------------------------------------------------

fn plain(seen: &Seen) -> String {
    let mut out = format!("{}\n", seen.limit);
    if let Some(problem) = &seen.problem {
        out.push_str(&format!("! {problem}\n"));
    }
    let counts: Vec<String> = seen.counts.iter().map(|(name, n)| format!("{name} {n}")).collect();
    out.push_str(&format!("{}\n", counts.join("  ")));
    out.push_str(&format!("{}\n", use_of(seen)));
    plain_table(&mut out, WORKER_COLUMNS, &seen.workers);
    plain_table(&mut out, PREFIX_COLUMNS, &seen.prefixes);
    out
}

fn use_of(seen: &Seen) -> String {
    let limit = if seen.memory.1 == 0 { String::new() } else { format!(" of {}", show_size(seen.memory.1)) };
    let spilled = if seen.spilled == 0 { String::new() } else { format!("  spilled {}", show_size(seen.spilled)) };
    format!(
        "cpu {:.0} % of {:.0} %  memory {}{limit}{spilled}  {:.0} tasks/s",
        seen.cpu.0,
        seen.cpu.1,
        show_size(seen.memory.0),
        seen.tasks_per_s
    )
}

fn plain_table<const N: usize>(out: &mut String, columns: [&str; N], rows: &[[String; N]]) {
    if rows.is_empty() {
        return;
    }
    let header = columns.map(str::to_owned);
    let shown: Vec<&[String; N]> = std::iter::once(&header).chain(rows.iter().take(PLAIN_ROWS)).collect();
    let widths: [usize; N] = std::array::from_fn(|at| {
        let cells = shown.iter().filter_map(|row| row.get(at));
        cells.map(|cell| cell.chars().count().min(COLUMN_CHARS_MAX)).max().unwrap_or_default()
    });
    out.push('\n');
    for row in shown {
        let cells: Vec<String> = row
            .iter()
            .zip(widths)
            .enumerate()
            .map(|(at, (cell, width))| if at < 1 { format!("{cell:<width$}") } else { format!("{cell:>width$}") })
            .collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    if rows.len() > PLAIN_ROWS {
        out.push_str(&format!("and {} more\n", rows.len() - PLAIN_ROWS));
    }
}

// ---- the terminal ---------------------------------------------------------------------------------------------

fn draw(frame: &mut Frame<'_>, base: &str, seen: &Seen, trouble: Option<&str>) {
    let told: Vec<String> = seen.counts.iter().map(|(name, n)| format!("{} {n}", name.replace('_', " "))).collect();
    let told = format!("{:.0} tasks/s  {}", seen.tasks_per_s, told.join("  "));
    let told_lines = if told.chars().count() > usize::from(frame.area().width) { 2 } else { 1 };
    let half = frame.area().height.saturating_sub(7 + told_lines) / 2;
    let [title, limit, problem, counts, cpu, memory, workers, prefixes] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(told_lines),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(half.min(u16::try_from(seen.workers.len()).unwrap_or(u16::MAX).saturating_add(2))),
        Constraint::Min(0),
    ])
    .areas(frame.area());
    let bold = Style::new().add_modifier(Modifier::BOLD);
    frame.render_widget(Line::from(vec![Span::styled("rask top", bold), format!("  {base}  q: quit").into()]), title);
    frame.render_widget(Paragraph::new(Line::styled(seen.limit.clone(), bold)), limit);
    let first = trouble.or(seen.problem.as_deref());
    if let Some(text) = first {
        frame.render_widget(Paragraph::new(Line::styled(format!("! {text}"), Style::new().red())), problem);
    }
    frame.render_widget(Paragraph::new(told).wrap(Wrap { trim: true }), counts);
    draw_gauges(frame, seen, (cpu, memory));
    draw_table(frame, workers, WORKER_COLUMNS, &seen.workers);
    draw_table(frame, prefixes, PREFIX_COLUMNS, &seen.prefixes);
}

fn draw_gauges(frame: &mut Frame<'_>, seen: &Seen, (cpu, memory): (ratatui::layout::Rect, ratatui::layout::Rect)) {
    let share = |part: f64, whole: f64| if whole > 0.0 { (part / whole).clamp(0.0, 1.0) } else { 0.0 };
    let label = format!("cpu {:.0} % of {:.0} %", seen.cpu.0, seen.cpu.1);
    frame.render_widget(Gauge::default().ratio(share(seen.cpu.0, seen.cpu.1)).label(label), cpu);
    let (used, limit) = seen.memory;
    let of = if limit == 0 { String::new() } else { format!(" of {}", show_size(limit)) };
    let spilled = if seen.spilled == 0 { String::new() } else { format!(", spilled {}", show_size(seen.spilled)) };
    let label = format!("memory {}{of}{spilled}", show_size(used));
    frame.render_widget(Gauge::default().ratio(share(used as f64, limit as f64)).label(label), memory);
}

fn draw_table<const N: usize>(
    frame: &mut Frame<'_>,
    area: ratatui::layout::Rect,
    columns: [&str; N],
    rows: &[[String; N]],
) {
    let widths: [u16; N] = std::array::from_fn(|at| {
        let cells = rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
        u16::try_from(cells.chain(columns.get(at).map(|column| column.len())).max().unwrap_or_default())
            .unwrap_or(u16::MAX)
    });
    let shown = fitting(&widths, area.width);
    // Names stand left, figures right, below their heads.
    let aligned = |(at, text): (usize, &str)| {
        let cell = Line::from(text.to_owned());
        if at == 0 { cell } else { cell.right_aligned() }
    };
    let line = |texts: [&str; N]| Row::new(texts.into_iter().take(shown).enumerate().map(aligned).collect::<Vec<_>>());
    let header = line(columns);
    let body = rows.iter().map(|row| line(row.each_ref().map(String::as_str)));
    let beside = rest(widths.get(..shown).unwrap_or_default());
    let name =
        Constraint::Length(widths.first().copied().unwrap_or(0).min(area.width.max(NAME_LEAST).saturating_sub(beside)));
    let all = std::iter::once(name).chain(widths.iter().take(shown).skip(1).map(|width| Constraint::Length(*width)));
    let table = Table::new(body, all).column_spacing(GAP);
    frame.render_widget(table.header(header.style(Style::new().add_modifier(Modifier::REVERSED))), area);
}

/// What the columns after the first take, with the gaps before them.
fn rest(widths: &[u16]) -> u16 {
    widths.iter().skip(1).fold(0, |sum: u16, width| sum.saturating_add(*width).saturating_add(GAP))
}

/// How many columns leave the first one enough of a line to tell names apart; the last ones go first.
fn fitting(widths: &[u16], width: u16) -> usize {
    let enough = NAME_LEAST.min(widths.first().copied().unwrap_or(0));
    let fits = |count: &usize| rest(widths.get(..*count).unwrap_or_default()).saturating_add(enough) <= width;
    (1..=widths.len()).rev().find(fits).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a name of a worker or task, however long, is no reason to end.
    #[test]
    fn a_cell_of_any_length_fits_a_table() {
        let (mut out, long) = (String::new(), "x".repeat(70_000));
        plain_table(&mut out, ["NAME", "N"], &[[long.clone(), long], ["a".to_owned(), "b".to_owned()]]);
        assert_eq!(out.trim().lines().count(), 3);
    }

    use serde_json::json;

    fn state() -> Json {
        json!({
            "overview": {"now": {
                "workers": 1, "threads": 2, "processing": 3, "erred": 1, "cpu": 150.0, "cpu_max": 200,
                "mem_process": 1 << 30, "mem_limit": 1u64 << 31, "tasks_per_s": 12.4,
                "limit": {"text": "All 2 threads compute."}, "problem": {"text": "1 tasks failed"},
            }},
            "workers": {"tcp://w:1": {"name": "ann", "status": "running", "nthreads": 2, "cpu": 150.0,
                "memory": 1 << 30, "limit": 0, "executing": 2, "processing": 3}},
            "prefixes": {"idle": {"done": 9}, "inc": {"done": 4, "processing": 3, "duration": 0.5}},
        })
    }

    /// Goal: the essentials are in the text, what is at work first.
    #[test]
    fn the_plain_text_says_the_essentials() {
        let text = plain(&Seen::of(&state()));
        assert!(text.starts_with("All 2 threads compute.\n! 1 tasks failed\nworkers 1  threads 2"));
        assert!(text.contains("cpu 150 % of 200 %") && text.contains("12 tasks/s"));
        let place = |name: &str| text.find(&format!("\n{name} ")).expect(name);
        assert!(place("inc") < place("idle") && place("ann") < place("inc"));
    }

    /// Goal: names can be told apart on the usual terminal, and figures stand below their heads.
    #[test]
    fn names_are_readable_on_a_terminal_of_80_columns() {
        let backend = ratatui::backend::TestBackend::new(80, 24);
        let mut terminal = ratatui::Terminal::new(backend).expect("a terminal");
        let mut state = state();
        let long = "a-name-that-is-longer-than-what-is-left-of-the-line-once-all-the-figures-have-their-place";
        state["prefixes"][long] = json!({"done": 12_345, "duration": 0.25});
        state["workers"]["tcp://w:1"]["name"] = json!("tcp://192.168.100.200:40001");
        let seen = Seen::of(&state);
        terminal.draw(|frame| draw(frame, "http://x/", &seen, None)).expect("drawn");
        let text = terminal.backend().to_string();
        assert!(text.contains("a-name-that-is-longer-than") && text.contains("192.168.100.200:40001"), "{text}");
        let line = |word: &str| text.lines().find(|line| line.contains(word)).unwrap_or_default().to_owned();
        assert_eq!(line("done").find("done").map(|at| at + 4), line("12345").find("12345").map(|at| at + 5), "{text}");
    }

    /// Goal: any size of terminal is drawn.
    #[test]
    fn every_size_is_drawn() {
        for (width, height) in [(80, 24), (20, 5), (1, 1), (200, 60)] {
            let backend = ratatui::backend::TestBackend::new(width, height);
            let mut terminal = ratatui::Terminal::new(backend).expect("a terminal");
            let seen = Seen::of(&state());
            terminal.draw(|frame| draw(frame, "http://x/", &seen, None)).expect("drawn");
        }
    }
}
