//! The first page of help: commands in groups, on one screen.

use std::fmt::Write;

/// Every command that is shown, under the heading where a person would look for it.
const GROUPS: &[(&str, &[&str])] = &[
    ("This machine", &["up", "down", "open", "status", "top", "explain", "logs", "run", "cluster"]),
    ("Clients", &["env", "configure", "token", "certs"]),
    ("Parts, with the flags of Dask's", &["scheduler", "worker"]),
    ("Other machines", &["join", "leave", "deploy", "peers", "peer", "jobs"]),
    ("Care", &["doctor", "service", "sample-config", "completions", "uninstall"]),
];

/// Bold and underlined, as clap's own headings; taken out where there is no terminal.
const HEADING: (&str, &str) = ("\u{1b}[1m\u{1b}[4m", "\u{1b}[0m");

/// Names and what they do are clap's; only their order is ours.
pub(super) fn grouped(command: clap::Command) -> clap::Command {
    let mut text = String::new();
    let width = GROUPS.iter().flat_map(|(_, names)| *names).map(|name| name.len()).max().unwrap_or(0);
    for (heading, names) in GROUPS {
        let (on, off) = HEADING;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{on}{heading}:{off}");
        for sub in names.iter().filter_map(|name| command.find_subcommand(name)) {
            let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(text, "  {:<width$}  {about}", sub.get_name());
        }
    }
    let (on, off) = HEADING;
    let template =
        format!("{{about}}\n\n{{usage-heading}} {{usage}}\n\n{text}{on}Everywhere:{off}\n{{options}}{{after-help}}");
    command.help_template(template)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_visible_command_is_in_exactly_one_group() {
        let mut listed: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        let command = super::super::command();
        let mut visible: Vec<&str> =
            command.get_subcommands().filter(|sub| !sub.is_hide_set()).map(clap::Command::get_name).collect();
        listed.sort_unstable();
        visible.sort_unstable();
        assert_eq!(listed, visible);
    }
}
