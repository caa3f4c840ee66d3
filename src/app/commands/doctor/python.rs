//! The Python of the workers, and how it differs from the one that a person types in.

use std::collections::BTreeMap;

use super::facts::Python;
use super::finding::{Finding, show};

/// What this was tested with, as the `requirements.txt` that rask installs from says.
const TESTED: &str = "2026.8";

pub(super) fn check(python: &Python) -> Vec<Finding> {
    let mut found = vec![chosen(python)];
    if let Some(Ok(chosen)) = &python.chosen {
        found.extend(pair(&chosen.dask, &chosen.distributed));
    }
    found.extend(mismatch(python));
    found
}

fn chosen(python: &Python) -> Finding {
    match (&python.chosen, &python.asked) {
        (Some(Ok(found)), _) => Finding::ok(
            "python",
            format!("Python {}, distributed {} ({})", found.version, found.distributed, show(&found.path)),
        ),
        (Some(Err(why)), Some(asked)) => Finding::problem("python", why.to_string())
            .why(format!("{asked} was asked for by --python or up.python, and workers run nowhere else"))
            .remedy(format!("{asked} -m pip install distributed, or name another")),
        (Some(Err(why)), None) => Finding::problem("python", why.to_string()).remedy("name another with --python"),
        (None, _) => match &python.maker {
            Some(maker) => Finding::note("python", "no Python here has dask and distributed (2025.4 or newer)")
                .why(format!("the first `rask up` makes an environment with {maker}: a minute, and network, once"))
                .remedy("to use one of yours: python -m pip install --upgrade dask distributed, or --python PATH"),
            None => {
                Finding::problem("python", "no Python here has dask and distributed, and none can make an environment")
                    .why("workers are Python processes")
                    .remedy("install Python 3.11 or newer with venv (Debian: apt install python3-venv), or uv")
            }
        },
    }
}

/// `distributed` pins `dask` to its own version.
fn pair(dask: &str, distributed: &str) -> Option<Finding> {
    if dask != distributed {
        let what = format!("dask is {dask}, distributed is {distributed}");
        return Some(
            Finding::warning("python", what)
                .why("they belong together: each release of one is made for the same release of the other")
                .remedy(format!("python -m pip install dask=={distributed} distributed=={distributed}")),
        );
    }
    (!distributed.starts_with(TESTED)).then(|| {
        Finding::note("python", format!("rask is tested with distributed {TESTED}, this is {distributed}"))
            .why("older and newer ones speak almost the same protocol")
    })
}

fn mismatch(python: &Python) -> Option<Finding> {
    let ((theirs, workers), (path, active)) = (python.workers.as_ref()?, python.active.as_ref()?);
    let differences = differences(workers, active);
    if differences.is_empty() {
        return None;
    }
    Some(
        Finding::warning("python", format!("versions differ, workers and {}: {}", show(path), differences.join(", ")))
            .why("what one side pickles the other may not read")
            .remedy(format!("start your clients with {}, or the appliance with --python {}", show(theirs), show(path))),
    )
}

/// `numpy 1 and 2`, for all that both have and that differ.
fn differences(workers: &BTreeMap<String, String>, active: &BTreeMap<String, String>) -> Vec<String> {
    let both = workers.iter().filter_map(|(name, theirs)| Some((name, theirs, active.get(name)?)));
    // Of Python itself only the third number may differ.
    let short = |name: &str, version: &str| match name {
        "python" => version.rsplit_once('.').map_or(version, |(short, _)| short).to_owned(),
        _ => version.to_owned(),
    };
    both.filter(|(name, theirs, ours)| short(name, theirs) != short(name, ours))
        .map(|(name, theirs, ours)| format!("{name} {theirs} and {ours}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::*;

    fn versions(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned())).collect()
    }

    #[test]
    fn only_what_both_have_and_what_matters_differs() {
        let workers = versions(&[("python", "3.11.2"), ("numpy", "2.1"), ("dask", "2026.8.0"), ("pandas", "3")]);
        let active = versions(&[("python", "3.11.9"), ("numpy", "1.26"), ("dask", "2026.8.0")]);
        assert_eq!(differences(&workers, &active), ["numpy 2.1 and 1.26"]);
        assert_eq!(differences(&versions(&[("python", "3.11.2")]), &versions(&[("python", "3.12.1")])).len(), 1);
    }

    #[test]
    fn without_a_python_it_depends_on_whether_one_can_be_made() {
        let none = Python::default();
        assert_eq!(chosen(&none).severity, Severity::Problem);
        let maker = Python { maker: Some("/usr/bin/uv".to_owned()), ..Python::default() };
        assert_eq!(chosen(&maker).severity, Severity::Note);
    }
}
