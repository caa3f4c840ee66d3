//! Accounts of this machine.

/// Who this user is, as Python's `getpass.getuser` says it: clusters of its clients get the same name.
pub(crate) fn user_name() -> String {
    let said = ["LOGNAME", "USER", "LNAME", "USERNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    let name_of_uid = || uzers::get_user_by_uid(uzers::get_current_uid()).map(|user| user.name().display().to_string());
    said.filter(|name| !name.is_empty()).or_else(name_of_uid).unwrap_or_else(|| "me".to_owned())
}
