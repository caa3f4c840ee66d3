//! `performance_report`: the page's own template with the data of a stretch of time inside, readable without a network.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

use super::stream::{FRESH, LIVE_MAX, Pick, block};
use super::{Feed, Silence, Topic, flame};
use crate::base::Value;

/// What stands in the template for the data.
const PLACE: &str = "<script id=\"rask-data\" type=\"application/json\">null</script>";

/// What the report shows besides the task stream and the profile.
const TOPICS: [Topic; 13] = [
    Topic::Overview,
    Topic::Workers,
    Topic::Prefixes,
    Topic::MemoryByKey,
    Topic::ComputeByKey,
    Topic::TimeByAction,
    Topic::System,
    Topic::WorkersSeries,
    Topic::Bandwidth,
    Topic::Fine,
    Topic::Exceptions,
    Topic::Lanes,
    Topic::Names,
];

/// Data can't end the script that it stands in.
fn inside_script(json: &str) -> String {
    json.replace("</", "<\\/").replace("<!--", "<\\u0021--")
}

impl Feed {
    /// The report about the time since `start_secs`. None: the template has no place for data.
    pub async fn report(&self, template: &str, start_secs: f64, code: &str) -> Result<Option<String>, Silence> {
        let stop_secs = self.now_secs();
        let Some((before, after)) = template.split_once(PLACE) else { return Ok(None) };
        let stream = self.rects(start_secs, stop_secs).await?;
        let topics = self.rows(TOPICS.to_vec()).await?;
        let pick = Pick { window_ms: Some((start_secs * 1e3, stop_secs * 1e3)), max: LIVE_MAX, ..Pick::default() };
        let stream = BASE64_STANDARD.encode(block(&stream, &pick, FRESH));
        let body = Value::map([("op", "profile".into()), ("start", start_secs.into()), ("stop", stop_secs.into())]);
        // Workers may be gone by now; the rest is worth showing.
        let profile = self.request(body).await.map_or_else(|_| json!(null), |tree| flame::flame(&tree));
        let code: Vec<&str> = code.lines().collect();
        let head = json!({
            "v": 1,
            "title": "Dask Performance Report",
            "made": stop_secs,
            "start": start_secs,
            "stop": stop_secs,
            "code": [code.join("\n")],
            "profile": profile,
            "stream": stream,
        });
        let head = head.to_string();
        let data = format!("{},\"topics\":{topics}}}", head.strip_suffix('}').unwrap_or(&head));
        let data = inside_script(&data);
        Ok(Some(format!("{before}<script id=\"rask-data\" type=\"application/json\">{data}</script>{after}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_can_not_break_out_of_its_script() {
        let escaped = inside_script(r#"{"text":"</script><!-- x"}"#);
        assert!(!escaped.contains("</") && !escaped.contains("<!--"));
        let back: serde_json::Value = serde_json::from_str(&escaped).expect("JSON");
        assert_eq!(back["text"], "</script><!-- x");
    }
}
