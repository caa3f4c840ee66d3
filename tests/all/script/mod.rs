//! The scheduler core as a table of behaviours: each file beside this one is a script, event in, effects out.
//!
//! `RASK_BLESS=1` writes what the scheduler does now into the scripts; look at the difference before you commit it.
//! `RASK_SCRIPT=word` plays only the scripts whose name contains the word.
//!
//! A script opens with `# ` lines: a title, the rule in a few sentences, and `Source:`, where Dask has it. Then come
//! commands, one a line, each followed by what the scheduler asks for because of it, as lines that begin with `=> `.
//! Time stands still between commands, except for `wait`. [`play`] lists the commands and [`words`] the effects.
//! Three kinds of effect are left out, because every script would be full of them: the answer to a registration that
//! succeeds, the two that only concern the reader of graphs, and the event log, unless the script says `listen TOPIC`.
//! After each event the scheduler's own rules are checked.

mod coord;
mod play;
mod words;

use std::path::{Path, PathBuf};

use play::Stage;

/// One script, cut into its commands.
struct Script {
    path: PathBuf,
    lines: Vec<String>,
}

/// A line that begins with this says what a command led to.
const ARROW: &str = "  => ";

impl Script {
    fn read(path: PathBuf) -> Self {
        let text = std::fs::read_to_string(&path).expect("a script is UTF-8 text");
        Self { path, lines: text.lines().map(str::to_owned).collect() }
    }

    fn name(&self) -> String {
        format!("tests/all/script/{}", self.path.file_name().unwrap_or_default().to_string_lossy())
    }

    /// What is missing at its head.
    fn fault_of_head(&self) -> Option<&'static str> {
        let head: Vec<&str> = self.lines.iter().map_while(|line| line.strip_prefix("# ")).collect();
        let source = head.iter().position(|line| line.starts_with("Source: "));
        match source {
            _ if head.first().is_none_or(|title| title.ends_with('.')) => Some("the first line must be a title"),
            None | Some(0) => Some("the head must end with `# Source: `"),
            Some(1) => Some("the head must say the rule between the title and `Source:`"),
            Some(_) => None,
        }
    }

    /// Plays it. Returns its text as it should be, and the first difference.
    ///
    /// Errors: a line that can't be understood, or a rule of the scheduler that broke, with the line's number.
    fn play(&self) -> Result<(String, Option<String>), String> {
        let mut stage = Stage::default();
        let (mut text, mut difference) = (String::new(), None);
        let mut at = 0;
        while let Some(line) = self.lines.get(at) {
            at += 1;
            let place = format!("{}:{at}", self.name());
            text += &format!("{line}\n");
            let command = line.split('#').next().unwrap_or_default().trim();
            if line.starts_with("  =>") {
                return Err(format!("{place}: an effect that no command led to"));
            }
            if command.is_empty() {
                continue;
            }
            let effects = stage.command(command).map_err(|fault| format!("{place}: `{command}`: {fault}"))?;
            let recorded: Vec<&String> = self.lines[at..].iter().take_while(|line| line.starts_with("  =>")).collect();
            at += recorded.len();
            let effects: Vec<String> = effects.iter().map(|effect| format!("{ARROW}{effect}")).collect();
            if difference.is_none() && !effects.iter().eq(recorded.iter().copied()) {
                let list = |lines: Vec<&String>| match lines.is_empty() {
                    true => "  (nothing)".to_owned(),
                    false => lines.into_iter().map(String::as_str).collect::<Vec<_>>().join("\n"),
                };
                let (should, does) = (list(recorded), list(effects.iter().collect()));
                difference = Some(format!("{place}: `{command}` should lead to\n{should}\nbut leads to\n{does}"));
            }
            for effect in effects {
                text += &format!("{effect}\n");
            }
        }
        Ok((text, difference))
    }
}

fn scripts() -> Vec<Script> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/all/script");
    let wanted = std::env::var("RASK_SCRIPT").unwrap_or_default();
    let entries = std::fs::read_dir(folder).expect("the scripts are beside this file");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "txt") && path.to_string_lossy().contains(&wanted));
    paths.sort();
    paths.into_iter().map(Script::read).collect()
}

/// Goal: placement, queueing, stealing, replicas, failures and restrictions do what each script says.
/// Method: plays every script against a fresh scheduler and compares what it asks for, line by line.
#[test]
fn every_script_leads_to_the_effects_that_it_records() {
    let bless = std::env::var_os("RASK_BLESS").is_some();
    let scripts = scripts();
    assert!(!scripts.is_empty(), "no script to play");
    let mut faults = Vec::new();
    for script in &scripts {
        if let Some(fault) = script.fault_of_head() {
            faults.push(format!("{}: {fault}", script.name()));
        }
        match script.play() {
            Err(fault) => faults.push(fault),
            Ok((text, Some(_))) if bless => std::fs::write(&script.path, text).expect("scripts can be written"),
            Ok((_, difference)) => faults.extend(difference),
        }
    }
    let remedy = "RASK_BLESS=1 records what the scheduler does now.";
    assert!(faults.is_empty(), "\n{}\n\n{} of {} scripts. {remedy}", faults.join("\n\n"), faults.len(), scripts.len());
}
