//! Rectangles of the task stream as a page gets them: picked, thinned to what its screen can show, in columns.
//!
//! Rules only. The layout is little endian; columns follow one another by falling size, so each is aligned.

use std::collections::BTreeMap;

use crate::cluster::{RectChunk, TimelineWindow};

/// Length of the header. Unit: bytes.
const HEADER: usize = 24;

/// First byte of a block.
const KIND: u8 = 2;

/// Version of the layout.
const VERSION: u8 = 1;

/// The page must drop what it holds.
pub const FRESH: u8 = 1;

/// Rectangles were merged.
pub const THINNED: u8 = 2;

/// Most rectangles in a block that comes by itself, and in one that was asked for. More than a screen can show.
pub const LIVE_MAX: usize = 100_000;

/// See `LIVE_MAX`.
pub const ASKED_MAX: usize = 200_000;

/// Which rectangles, and how finely.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pick {
    /// From this number on.
    pub after: u64,
    /// Only what has a part in here. Unit: milliseconds since the epoch.
    pub window_ms: Option<(f64, f64)>,
    /// Width of a pixel; what is narrower is merged. Unit: seconds. 0: nothing is merged.
    pub px: f64,
    /// Only these threads; none: all.
    pub lanes: Option<Vec<bool>>,
    /// Only this prefix.
    pub prefix: Option<u16>,
    /// Only this action.
    pub action: Option<u8>,
    /// Most rectangles; pixels are widened until they fit.
    pub max: usize,
}

/// A rectangle on its way.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rect {
    start_ms: f64,
    duration_ms: f32,
    id: u64,
    lane: u16,
    prefix: u16,
    count: u16,
    action: u8,
}

/// A block: header and columns.
pub fn block(stream: &TimelineWindow, pick: &Pick, flags: u8) -> Vec<u8> {
    let mut px = if pick.px.is_finite() { pick.px.max(0.0) } else { 0.0 };
    let mut rects = picked(&stream.chunks, pick);
    let whole = rects.len();
    if px > 0.0 {
        rects = thin(&rects, px * 1e3);
    }
    while rects.len() > pick.max {
        // Too fine for anybody: wider pixels until it fits.
        px = if px > 0.0 { px * 2.0 } else { first_px(&rects, pick.max) };
        let fewer = thin(&rects, px * 1e3);
        if fewer.len() == rects.len() && px > 1e6 {
            // Nothing merges any more (too many threads): the newest win.
            let drop = rects.len() - pick.max;
            rects.drain(..drop);
            break;
        }
        rects = fewer;
    }
    let thinned = if rects.len() < whole { THINNED } else { 0 };
    encode(&rects, (stream.first, stream.next), px, flags | thinned)
}

fn first_px(rects: &[Rect], max: usize) -> f64 {
    let begin = rects.iter().map(|rect| rect.start_ms).fold(f64::INFINITY, f64::min);
    let end = rects.iter().map(|rect| rect.start_ms).fold(f64::NEG_INFINITY, f64::max);
    ((end - begin) / 1e3 / max.max(1) as f64).max(1e-6)
}

fn picked(chunks: &[std::sync::Arc<RectChunk>], pick: &Pick) -> Vec<Rect> {
    let mut rects = Vec::new();
    for chunk in chunks {
        let skip = usize::try_from(pick.after.saturating_sub(chunk.first)).unwrap_or(usize::MAX);
        let numbers = chunk.first..;
        let columns = chunk.start_ms.iter().zip(&chunk.duration_ms).zip(&chunk.lane).zip(&chunk.prefix);
        let columns = columns.zip(&chunk.action).zip(numbers).skip(skip);
        for (((((&start_ms, &duration_ms), &lane), &prefix), &action), id) in columns {
            let outside =
                pick.window_ms.is_some_and(|(from, to)| start_ms > to || start_ms + f64::from(duration_ms) < from);
            let elsewhere =
                pick.lanes.as_ref().is_some_and(|lanes| !lanes.get(usize::from(lane)).copied().unwrap_or(false));
            let other = pick.prefix.is_some_and(|wanted| wanted != prefix)
                || pick.action.is_some_and(|wanted| wanted != action);
            if !(outside || elsewhere || other) {
                rects.push(Rect { start_ms, duration_ms, id, lane, prefix, count: 1, action });
            }
        }
    }
    rects
}

/// What falls into one pixel of one thread: how long each kind took there.
#[derive(Debug, Default)]
struct Pixel {
    /// By prefix and action: time, how many, and the first of them.
    kinds: Vec<(u16, u8, f32, u32, u64)>,
    start_ms: f64,
    end_ms: f64,
}

/// Merges what is narrower than a pixel: one rectangle per thread and pixel, of the kind that took most of it. A
/// failure is never hidden by anything else.
fn thin(rects: &[Rect], px_ms: f64) -> Vec<Rect> {
    let mut out = Vec::new();
    let mut pixels: BTreeMap<(u16, i64), Pixel> = BTreeMap::new();
    for rect in rects {
        if f64::from(rect.duration_ms) >= px_ms {
            out.push(*rect);
            continue;
        }
        let at = (rect.start_ms / px_ms).floor() as i64;
        let pixel = pixels.entry((rect.lane, at)).or_insert_with(|| Pixel {
            kinds: Vec::new(),
            start_ms: f64::INFINITY,
            end_ms: f64::NEG_INFINITY,
        });
        pixel.start_ms = pixel.start_ms.min(rect.start_ms);
        pixel.end_ms = pixel.end_ms.max(rect.start_ms + f64::from(rect.duration_ms));
        let known = pixel.kinds.iter_mut().find(|kind| (kind.0, kind.1) == (rect.prefix, rect.action));
        match known {
            Some(kind) => {
                kind.2 += rect.duration_ms;
                kind.3 = kind.3.saturating_add(u32::from(rect.count));
            }
            None => {
                pixel.kinds.push((rect.prefix, rect.action, rect.duration_ms, u32::from(rect.count), rect.id));
            }
        }
    }
    for ((lane, _), pixel) in pixels {
        let weight = |kind: &&(u16, u8, f32, u32, u64)| (kind.1 == crate::cluster::FAILED, kind.2);
        let most = pixel.kinds.iter().max_by(|left, right| {
            let (left, right) = (weight(left), weight(right));
            left.0.cmp(&right.0).then(left.1.total_cmp(&right.1))
        });
        let Some(&(prefix, action, _, _, id)) = most else { continue };
        let count: u32 = pixel.kinds.iter().map(|kind| kind.3).fold(0, u32::saturating_add);
        out.push(Rect {
            start_ms: pixel.start_ms,
            duration_ms: (pixel.end_ms - pixel.start_ms) as f32,
            id,
            lane,
            prefix,
            count: u16::try_from(count).unwrap_or(u16::MAX),
            action,
        });
    }
    out
}

fn encode(rects: &[Rect], (first, next): (u64, u64), px: f64, flags: u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + rects.len() * 23);
    out.extend_from_slice(&[KIND, VERSION, flags, 0]);
    out.extend_from_slice(&u32::try_from(rects.len()).unwrap_or(u32::MAX).to_le_bytes());
    // The low halves: numbers are told apart by far fewer bits than they have.
    out.extend_from_slice(&(first as u32).to_le_bytes());
    out.extend_from_slice(&(next as u32).to_le_bytes());
    out.extend_from_slice(&px.to_le_bytes());
    rects.iter().for_each(|rect| out.extend_from_slice(&rect.start_ms.to_le_bytes()));
    rects.iter().for_each(|rect| out.extend_from_slice(&rect.duration_ms.to_le_bytes()));
    rects.iter().for_each(|rect| out.extend_from_slice(&(rect.id as u32).to_le_bytes()));
    rects.iter().for_each(|rect| out.extend_from_slice(&rect.lane.to_le_bytes()));
    rects.iter().for_each(|rect| out.extend_from_slice(&rect.prefix.to_le_bytes()));
    rects.iter().for_each(|rect| out.extend_from_slice(&rect.count.to_le_bytes()));
    out.extend(rects.iter().map(|rect| rect.action));
    out
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn chunk(rects: &[(f64, f32, u16, u16, u8)]) -> TimelineWindow {
        let mut chunk = RectChunk::default();
        for &(start_ms, duration_ms, lane, prefix, action) in rects {
            chunk.start_ms.push(start_ms);
            chunk.duration_ms.push(duration_ms);
            chunk.lane.push(lane);
            chunk.prefix.push(prefix);
            chunk.action.push(action);
        }
        TimelineWindow {
            chunks: vec![Arc::new(chunk)],
            first: 0,
            next: rects.len() as u64,
            ..TimelineWindow::default()
        }
    }

    fn count(block: &[u8]) -> u32 {
        u32::from_le_bytes(block[4..8].try_into().expect("four bytes"))
    }

    /// Goal: the page reads what is written. Method: the golden block, byte for byte; the page's test reads the file.
    #[test]
    fn a_block_is_the_golden_one() {
        let stream = chunk(&[(1e12, 1.5, 0, 0, 0), (1e12 + 2.0, 0.25, 1, 65535, 6), (1e12 + 3.0, 10.0, 0, 1, 1)]);
        let found = block(&stream, &Pick { max: LIVE_MAX, ..Pick::default() }, FRESH);
        let file = include_str!("../../tests/golden/feed/block.json");
        let golden: serde_json::Value = serde_json::from_str(file).expect("JSON");
        let hex = data_encoding::HEXLOWER.encode(&found);
        assert_eq!(golden["hex"], hex);
        assert_eq!(found.len(), HEADER + 3 * 23);
    }

    /// Goal: what the screen can't show is not sent; wide ones stay unchanged; time is not lost.
    #[test]
    fn narrow_rectangles_are_merged_by_pixel() {
        let mut rects: Vec<_> = (0..1_000).map(|n| (f64::from(n), 0.9, 0, 0, 0)).collect();
        rects.push((0.0, 500.0, 1, 1, 0));
        rects.push((250.5, 0.1, 0, 2, crate::cluster::FAILED));
        let pick = Pick { px: 0.1, max: LIVE_MAX, ..Pick::default() };
        let thinned = thin(&picked(&chunk(&rects).chunks, &pick), 100.0);
        assert_eq!(thinned.len(), 11);
        assert_eq!(thinned.iter().map(|rect| u32::from(rect.count)).sum::<u32>(), 1_002);
        assert!(thinned.iter().any(|rect| rect.action == crate::cluster::FAILED && rect.count > 1));
        assert!(thinned.contains(&Rect {
            start_ms: 0.0,
            duration_ms: 500.0,
            id: 1_000,
            lane: 1,
            prefix: 1,
            count: 1,
            action: 0
        }));
    }

    /// Goal: a block never holds more than it may; filters and windows pick.
    #[test]
    fn blocks_are_bounded_and_filtered() {
        let rects: Vec<_> = (0..5_000).map(|n| (f64::from(n), 0.5, (n % 4) as u16, (n % 3) as u16, 0)).collect();
        let stream = chunk(&rects);
        let counted = |pick: Pick| count(&block(&stream, &Pick { max: 1_000, ..pick }, 0));
        assert!(counted(Pick::default()) <= 1_000);
        assert_eq!(counted(Pick { after: 4_990, ..Pick::default() }), 10);
        assert_eq!(counted(Pick { window_ms: Some((100.0, 109.0)), ..Pick::default() }), 10);
        let lanes = Some(vec![true, false, false, false]);
        assert_eq!(counted(Pick { window_ms: Some((0.0, 9.0)), lanes, ..Pick::default() }), 3);
        assert_eq!(counted(Pick { after: 4_997, prefix: Some(2), ..Pick::default() }), 1);
    }
}
