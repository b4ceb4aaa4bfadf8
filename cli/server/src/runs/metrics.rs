//! Reading series: one, several, or as few points as a plot needs.
//!
//! Histories are told by time, then step, then value, as the protocol has it; those too long to be sorted, by step, then time, then value.
//! A page token says which, and the last point of the page.

use std::cmp::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use tracker_store::{Point, RunId};

use super::id;
use crate::api::Api;
use crate::error::{Answer, Refusal};
use crate::limits;
use crate::wire::{Int, Num, Request, json, need, write_json};

const MAX_POINTS: usize = 25_000;
/// Series up to this are sorted by time, in points of 24 bytes.
const MAX_SORTED: usize = 1 << 20;
const MAX_RUNS: usize = 100;
const MAX_INTERVAL_POINTS: usize = 2500;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Asked {
    run_id: Option<String>,
    run_uuid: Option<String>,
    metric_key: Option<String>,
    max_results: Option<Int>,
    page_token: Option<String>,
}

pub(crate) fn history(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: Asked = request.read()?;
    let run = api.run(id(asked.run_id.as_ref(), asked.run_uuid.as_ref())?)?;
    let key = need(asked.metric_key.as_ref(), "metric_key")?;
    // Without a limit the whole history is asked for.
    let limit = asked.max_results.map(|n| limits::max_results(Some(n), MAX_POINTS, MAX_POINTS)).transpose()?;
    let after = asked.page_token.as_deref().filter(|token| !token.is_empty()).map(place).transpose()?;
    let limit = limit.unwrap_or(usize::MAX);
    let Told { by, points } = Told::of(api, run.id, key, after)?;
    let mut list = List::default();
    for point in points {
        let point = point?;
        if list.n_points == limit {
            let next = list.last.as_ref().map(|last| token(by, last));
            return list.end(next.as_deref());
        }
        list.push(key, &point, None)?;
    }
    list.end(None)
}

/// By what the points of a series are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Time,
    Step,
}

/// The points of a series in the order they are told.
struct Told {
    by: By,
    points: Box<dyn Iterator<Item = Answer<Point>>>,
}

impl Told {
    /// Those after a place, or all. Where both orders are the same, as they mostly are, it is that of steps, which needs no sorting.
    fn of(api: &Api, run: RunId, key: &str, after: Option<(By, Point)>) -> Answer<Self> {
        let by_step = |after| -> Answer<_> { Ok(api.store.history(run, key, after)?.map(|point| Ok(point?))) };
        if let Some((By::Step, last)) = after {
            return Ok(Self { by: By::Step, points: Box::new(by_step(Some(last))?) });
        }
        let mut all = by_step(None)?;
        // Who goes on by time began with a series that was short enough.
        let limit = if after.is_some() { usize::MAX } else { MAX_SORTED };
        let mut points = all.by_ref().take(limit).collect::<Answer<Vec<Point>>>()?;
        if let Some(next) = all.next() {
            let points = points.into_iter().map(Ok).chain([next]).chain(all);
            return Ok(Self { by: By::Step, points: Box::new(points) });
        }
        if after.is_none() && points.is_sorted_by_key(|point| point.time) {
            return Ok(Self { by: By::Step, points: Box::new(points.into_iter().map(Ok)) });
        }
        points.sort_by(in_time);
        let n_before = after.map_or(0, |(_, last)| points.partition_point(|point| in_time(point, &last).is_le()));
        Ok(Self { by: By::Time, points: Box::new(points.into_iter().skip(n_before).map(Ok)) })
    }
}

fn in_time(a: &Point, b: &Point) -> Ordering {
    (a.time, a.step).cmp(&(b.time, b.step)).then_with(|| a.value.total_cmp(&b.value))
}

/// Points as they are written: some hundred thousand of them are too many to be made into values first.
#[derive(Default)]
struct List {
    text: Vec<u8>,
    /// What stands before the value of the points that are written now: the same for all of a series.
    head: Vec<u8>,
    of: Option<(String, Option<String>)>,
    n_points: usize,
    last: Option<Point>,
}

impl List {
    fn push(&mut self, key: &str, point: &Point, run_id: Option<&str>) -> Answer<()> {
        if self.of.as_ref().is_none_or(|(last, run)| last != key || run.as_deref() != run_id) {
            let mut head = [b"{\"key\":", json(&key)?.as_slice()].concat();
            if let Some(run) = run_id {
                head.extend([b",\"run_id\":", json(&run)?.as_slice()].concat());
            }
            head.extend(b",\"value\":");
            (self.head, self.of) = (head, Some((key.to_owned(), run_id.map(str::to_owned))));
        }
        self.text.extend(if self.n_points == 0 { &b"{\"metrics\":["[..] } else { b"," });
        self.text.extend(&self.head);
        write_json(&mut self.text, &Num(point.value))?;
        self.text.extend(b",\"timestamp\":");
        write_json(&mut self.text, &point.time)?;
        self.text.extend(b",\"step\":");
        write_json(&mut self.text, &point.step)?;
        self.text.push(b'}');
        self.n_points += 1;
        self.last = Some(*point);
        Ok(())
    }

    /// The whole answer.
    fn end(mut self, next_page_token: Option<&str>) -> Answer<Vec<u8>> {
        match (self.n_points, next_page_token) {
            (0, _) => self.text.extend(b"{}"),
            (_, None) => self.text.extend(b"]}"),
            (_, Some(token)) => {
                self.text.extend(b"],\"next_page_token\":");
                write_json(&mut self.text, &token)?;
                self.text.push(b'}');
            }
        }
        Ok(self.text)
    }
}

fn token(by: By, point: &Point) -> String {
    let by = [u8::from(by == By::Time)];
    let point = [point.step.to_be_bytes(), point.time.to_be_bytes(), point.value.to_bits().to_be_bytes()];
    URL_SAFE_NO_PAD.encode([&by, point.as_flattened()].concat())
}

/// The order and the point that a token says.
fn place(token: &str) -> Answer<(By, Point)> {
    let bytes: Option<[u8; 25]> = URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| bytes.try_into().ok());
    let bytes = bytes.ok_or_else(|| {
        Refusal::invalid(
            "Invalid value for parameter 'page_token' supplied: the one that the page before gave is expected.",
        )
    })?;
    let part = |at: usize| {
        let mut part = [0; 8];
        part.copy_from_slice(&bytes[at..at + 8]);
        part
    };
    let point = Point::new(
        i64::from_be_bytes(part(1)),
        i64::from_be_bytes(part(9)),
        f64::from_bits(u64::from_be_bytes(part(17))),
    );
    Ok((if bytes[0] == 1 { By::Time } else { By::Step }, point))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Bulk {
    run_id: Vec<String>,
    run_ids: Vec<String>,
    metric_key: Option<String>,
    max_results: Option<Int>,
    start_step: Option<Int>,
    end_step: Option<Int>,
}

impl Bulk {
    fn runs(&self, api: &Api) -> Answer<Vec<(RunId, String)>> {
        let (parameter, ids) =
            if self.run_ids.is_empty() { ("run_id", &self.run_id) } else { ("run_ids", &self.run_ids) };
        if ids.is_empty() {
            return Err(Refusal::missing(parameter));
        }
        if ids.len() > MAX_RUNS {
            return Err(Refusal::invalid(format!(
                "'{parameter}' exceeds the maximum of {MAX_RUNS} runs: there are {}.",
                ids.len()
            )));
        }
        ids.iter().map(|id| api.run(id).map(|run| (run.id, run.id.simple()))).collect()
    }
}

/// Points of several runs, up to a limit over all of them.
pub(crate) fn bulk(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: Bulk = request.read()?;
    let key = need(asked.metric_key.as_ref(), "metric_key")?;
    let mut n_left = limits::max_results(asked.max_results, MAX_POINTS, MAX_POINTS)?;
    let mut list = List::default();
    for (run, name) in asked.runs(api)? {
        if n_left == 0 {
            // Its history would be read to be sorted.
            break;
        }
        for point in Told::of(api, run, key, None)?.points.take(n_left) {
            list.push(key, &point?, Some(&name))?;
            n_left -= 1;
        }
    }
    list.end(None)
}

/// Points of several runs between two steps, at most some thousand of each, spread evenly over steps; the first and the last are in it.
pub(crate) fn bulk_interval(api: &Api, request: &Request<'_>) -> Answer<Vec<u8>> {
    let asked: Bulk = request.read()?;
    let key = need(asked.metric_key.as_ref(), "metric_key")?;
    let limit = limits::max_results(asked.max_results, MAX_INTERVAL_POINTS, MAX_INTERVAL_POINTS)?;
    let (start, end) = (asked.start_step.map(|step| step.0), asked.end_step.map(|step| step.0));
    if start.is_some() != end.is_some() {
        return Err(Refusal::invalid("If either 'start_step' or 'end_step' are specified, both must be specified."));
    }
    let (start, end) = (start.unwrap_or(i64::MIN), end.unwrap_or(i64::MAX));
    if start > end {
        return Err(Refusal::invalid(format!(
            "'end_step' must be greater than or equal to 'start_step'. Found start_step={start} and end_step={end}."
        )));
    }
    let mut list = List::default();
    for (run, name) in asked.runs(api)? {
        for point in sampled(api, run, key, (start, end), limit)? {
            list.push(key, &point, Some(&name))?;
        }
    }
    list.end(None)
}

fn sampled(api: &Api, run: RunId, key: &str, (start, end): (i64, i64), limit: usize) -> Answer<Vec<Point>> {
    let before = (start > i64::MIN).then(|| Point::new(start - 1, i64::MAX, f64::NAN));
    let mut n_points: usize = 0;
    for point in api.store.history(run, key, before)? {
        if point?.step > end {
            break;
        }
        n_points += 1;
    }
    let mut kept = Vec::new();
    for (nth, point) in api.store.history(run, key, before)?.take(n_points).enumerate() {
        let point = point?;
        // The points at the ends of `limit` equal stretches: as many as there are, if they are few.
        let stretch = |nth: usize| (nth * (limit - 1)).checked_div(n_points.saturating_sub(1)).unwrap_or(0);
        if n_points <= limit || nth == 0 || nth + 1 == n_points || stretch(nth) != stretch(nth - 1) {
            kept.push(point);
        }
    }
    kept.truncate(limit);
    Ok(kept)
}
