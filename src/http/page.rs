//! The status page as plain HTML.

use std::fmt::Write;

use serde_json::Value;

use super::NoAnswer;

/// `/json/index.html`
pub(super) const JSON_INDEX: &str =
    "<ul><li><a href=\"counts.json\">counts.json</a></li><li><a href=\"identity.json\">identity.json</a></li></ul>\n";

const HEAD: &str = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>rask</title>\
<meta http-equiv=\"refresh\" content=\"5\"><style>body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;\
padding:0 1rem;color:#222;background:#fff}table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.25rem \
.75rem .25rem 0;border-bottom:1px solid #ddd}code{background:#f2f2f2;padding:.1rem .3rem}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}code{background:#2a2a2a}td,th{border-color:#444}}\
</style></head><body><h1>rask</h1>";

/// The page: facts, then what the scheduler says of itself and its workers.
pub(super) fn status(facts: &[(String, String)], identity: Option<&Result<String, NoAnswer>>) -> String {
    let mut html = HEAD.to_owned();
    html.push_str("<table>");
    for (name, value) in facts {
        row(&mut html, &[name, value]);
    }
    html.push_str("</table>");
    match identity {
        None => html.push_str("<p>No cluster runs here.</p>"),
        Some(Err(why)) => {
            let _ = write!(html, "<p>The scheduler does not answer: {}</p>", escaped(&why.to_string()));
        }
        Some(Ok(json)) => workers(&mut html, &serde_json::from_str(json).unwrap_or_default()),
    }
    html.push_str("<p><a href=\"json/identity.json\">identity</a> · <a href=\"json/counts.json\">counts</a> · ");
    html.push_str("<a href=\"metrics\">metrics</a> · <a href=\"health\">health</a></p></body></html>\n");
    html
}

fn workers(html: &mut String, identity: &Value) {
    let workers = identity.get("workers").and_then(Value::as_object).cloned().unwrap_or_default();
    let _ = write!(
        html,
        "<h2>{} workers</h2><table><tr><th>name<th>address<th>threads<th>memory<th>CPU</tr>",
        workers.len()
    );
    for (address, worker) in &workers {
        let metric = |name: &str| worker.pointer(&format!("/metrics/{name}")).and_then(Value::as_f64);
        let memory = metric("memory").map_or_else(String::new, |bytes| crate::config::show_size(bytes as u64));
        let limit = worker.get("memory_limit").and_then(Value::as_u64).unwrap_or_default();
        let limit = if limit == 0 { "no limit".to_owned() } else { crate::config::show_size(limit) };
        row(
            html,
            &[
                &shown(worker.get("name")),
                address,
                &shown(worker.get("nthreads")),
                &format!("{memory} of {limit}"),
                &metric("cpu").map_or_else(String::new, |cpu| format!("{cpu:.0} %")),
            ],
        );
    }
    html.push_str("</table>");
}

fn row(html: &mut String, cells: &[&str]) {
    html.push_str("<tr>");
    for cell in cells {
        let _ = write!(html, "<td>{}</td>", escaped(cell));
    }
    html.push_str("</tr>");
}

fn shown(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// Names come from workers: they must not become markup.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workers_name_cannot_become_markup() {
        let identity = r#"{"workers": {"tcp://x:1": {"name": "<script>", "nthreads": 2, "memory_limit": 1024}}}"#;
        let html = status(&[], Some(&Ok(identity.to_owned())));
        assert!(html.contains("&lt;script&gt;") && !html.contains("<script>"));
        assert!(html.contains("<h2>1 workers</h2>"));
    }
}
