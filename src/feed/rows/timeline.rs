//! Rows that name what the task stream shows: threads and prefixes.

use serde_json::json;

use crate::base::Text;
use crate::cluster::{Lane, TimelineWindow};
use crate::feed::delta::Rows;

/// `lanes`; `from` is the index of the first.
pub(in crate::feed) fn lanes(stream: &TimelineWindow, from: usize) -> Rows {
    let row = |(lane, index): (&Lane, usize)| {
        let row = vec![
            ("worker", json!(lane.worker)),
            ("name", json!(lane.name)),
            ("host", json!(lane.host)),
            // As text: the numbers of threads are larger than what a page's numbers can hold.
            ("thread", json!(lane.thread.to_string())),
            ("n", json!(lane.n)),
        ];
        (index.to_string(), row)
    };
    stream.lanes.iter().zip(from..).map(row).collect()
}

pub(in crate::feed) fn names(prefixes: &[Text]) -> Rows {
    let row = |(index, name): (usize, &Text)| (index.to_string(), vec![("name", json!(name)), ("color", json!(index))]);
    prefixes.iter().enumerate().map(row).collect()
}
