//! Accounts of this machine.

/// Who this user is, as Python's `getpass.getuser` says it: clusters of its clients get the same name.
pub(crate) fn user_name() -> String {
    let said = ["LOGNAME", "USER", "LNAME", "USERNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    said.filter(|name| !name.is_empty()).or_else(name_of_uid).unwrap_or_else(|| "me".to_owned())
}

fn name_of_uid() -> Option<String> {
    account(2, &rustix::process::getuid().as_raw().to_string())?.into_iter().next()
}

/// The fields of the account of this machine whose field `at` is `value`: name, password, uid, gid and so on.
pub(crate) fn account(at: usize, value: &str) -> Option<Vec<String>> {
    let table = std::fs::read_to_string("/etc/passwd").ok()?;
    let mut lines = table.lines().map(|line| line.split(':').map(str::to_owned).collect::<Vec<_>>());
    lines.find(|fields| fields.get(at).is_some_and(|field| field == value))
}
