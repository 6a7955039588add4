//! What each server carries, beside what would be fair.

use super::chart::{EDGE, Held, Scale, Svg, grouped, step};
use super::scenario::{Outcome, Server};

const WIDTH: f64 = 960.0;
/// Up to so many servers have a row each; of more the distribution is shown.
const ROWS: usize = 32;

/// Series beside each other: class, name, and what a server has of it.
struct Series {
    class: &'static str,
    text: &'static str,
    name: &'static str,
    count: fn(&Server) -> f64,
}

const CHANNELS: Series =
    Series { class: "a-fill", text: "a-text", name: "channels", count: |server| f64::from(server.keys) };
const ALONE: Series = Series {
    class: "soft",
    text: "",
    name: "clients by the ring alone",
    count: |server| server.clients.map_or(0.0, |clients| float(clients.owned)),
};
const ASSIGNED: Series = Series {
    class: "a-fill",
    text: "a-text",
    name: "clients as they are assigned: within the bound",
    count: |server| server.clients.map_or(0.0, |clients| float(clients.assigned)),
};

pub(super) fn draw(outcome: &Outcome) -> String {
    let series = if outcome.skew.is_some() { &[ALONE, ASSIGNED][..] } else { &[CHANNELS][..] };
    if outcome.servers.len() <= ROWS { rows(outcome, series) } else { distribution(outcome, series) }
}

fn subtitle(outcome: &Outcome) -> String {
    let servers = grouped(u32::try_from(outcome.servers.len()).unwrap_or(u32::MAX));
    let keys = grouped(outcome.keys);
    let changed = if outcome.steps.is_empty() { "" } else { ", after all changes" };
    match outcome.skew {
        Some(skew) => format!(
            "{servers} servers, {} clients in {keys} channels by Zipf’s law, s = {}{changed}.",
            grouped(skew.clients),
            skew.exponent
        ),
        None => format!("{servers} servers, {keys} channels{changed}."),
    }
}

/// Each server's share of the whole, in %.
fn shares(outcome: &Outcome, series: &Series) -> Vec<f64> {
    let all: f64 = outcome.servers.iter().map(series.count).sum();
    outcome.servers.iter().map(|server| 100.0 * (series.count)(server) / all.max(1.0)).collect()
}

fn rows(outcome: &Outcome, series: &[Series]) -> String {
    let row = 20.0 + 14.0 * float(series.len() as u64);
    let height = 212.0 + row * float(outcome.servers.len() as u64);
    let of: Vec<Vec<f64>> = series.iter().map(|series| shares(outcome, series)).collect();
    let fair = outcome.servers.iter().map(|server| 100.0 * server.fair);
    let most = of.iter().flatten().copied().chain(fair).fold(0.1, f64::max);
    let most = (most / step(most / 6.0)).ceil() * step(most / 6.0);
    let longest = outcome.servers.iter().map(|server| server.name.chars().count()).max().unwrap_or(0).min(24);
    let left = EDGE + 16.0 + 7.2 * float(longest as u64);
    let x = Scale { values: (0.0, most), pixels: (left, WIDTH - EDGE - 76.0) };
    let description = "Bar chart: what part each server carries, with a mark at its fair part.";
    let mut svg = Svg::new(WIDTH, height, "Who carries how much", &subtitle(outcome), description);
    legend(&mut svg, series, true);
    let (top, bottom) = (124.0, height - 72.0);
    for tick in x.ticks(6.0) {
        svg.line(if tick > 0.0 { "grid" } else { "axis" }, (x.at(tick), top), (x.at(tick), bottom));
        svg.text("", x.at(tick), bottom + 20.0, Held::Middle, &format!("{} %", round(tick)));
    }
    svg.text(
        "",
        (x.pixels.0 + x.pixels.1) / 2.0,
        bottom + 48.0,
        Held::Middle,
        "share of all servers together, %",
    );
    for (at, server) in outcome.servers.iter().enumerate() {
        let above = top + row * float(at as u64) + 10.0;
        let middle = above + (row - 20.0) / 2.0 + 4.0;
        let name: String = server.name.chars().take(24).collect();
        svg.text("strong", left - 12.0, middle, Held::End, &name);
        for (number, series) in series.iter().enumerate() {
            let high = above + 14.0 * float(number as u64);
            svg.rect(series.class, (left, high), ((x.at(of[number][at]) - left).max(0.0), 12.0), 2.0);
        }
        let fair = x.at(100.0 * server.fair);
        svg.line("mark", (fair, above - 4.0), (fair, above + row - 18.0));
        let last = of.last().map_or(0.0, |shares| shares[at]);
        let told =
            if server.fair > 0.0 { percent(last / server.fair / 100.0 - 1.0) } else { "drains".to_owned() };
        svg.text("", WIDTH - EDGE, middle, Held::End, &told);
    }
    svg.text("", WIDTH - EDGE, top - 6.0, Held::End, "off its fair share");
    svg.finish()
}

/// How many servers are how far off: a histogram.
fn distribution(outcome: &Outcome, series: &[Series]) -> String {
    const HEIGHT: f64 = 560.0;
    const BINS: usize = 41;
    let of: Vec<Vec<f64>> = series.iter().map(|series| deviations(outcome, series)).collect();
    // Wide enough for most servers; those beyond are in the last bin, which says so.
    let last = of.last().map_or(&[][..], |deviations| deviations);
    let reach = last.iter().fold(1.0_f64, |reach, deviation| reach.max(deviation.abs()));
    let width = step(reach / 20.0);
    let half = float(BINS as u64) / 2.0;
    let mut counts = vec![[0_u32; BINS]; series.len()];
    for (counts, deviations) in counts.iter_mut().zip(&of) {
        for deviation in deviations {
            let bin = (deviation / width + half).floor().clamp(0.0, float(BINS as u64 - 1));
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
            let bin = bin as usize;
            counts[bin] += 1;
        }
    }
    let most = f64::from(counts.iter().flatten().copied().max().unwrap_or(1).max(1));
    let most = (most / step(most / 6.0)).ceil() * step(most / 6.0);
    let x = Scale { values: (-half * width, half * width), pixels: (EDGE + 56.0, WIDTH - EDGE - 8.0) };
    let y = Scale { values: (0.0, most), pixels: (HEIGHT - 84.0, 132.0) };
    let description = "Histogram: how many servers are how far off their fair share.";
    let mut svg =
        Svg::new(WIDTH, HEIGHT, "How far servers are off their fair share", &subtitle(outcome), description);
    legend(&mut svg, series, false);
    for tick in y.ticks(6.0) {
        svg.line(
            if tick > 0.0 { "grid" } else { "axis" },
            (x.pixels.0, y.at(tick)),
            (x.pixels.1, y.at(tick)),
        );
        svg.text("", x.pixels.0 - 10.0, y.at(tick) + 4.0, Held::End, &round(tick));
    }
    let bar = (x.pixels.1 - x.pixels.0) / float(BINS as u64);
    let each = (bar - 4.0) / float(series.len() as u64);
    for (number, (series, counts)) in series.iter().zip(&counts).enumerate() {
        for (bin, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let left = x.pixels.0 + bar * float(bin as u64) + 2.0 + each * float(number as u64);
            let high = y.at(f64::from(*count));
            svg.rect(series.class, (left, high), (each, y.pixels.0 - high), 1.0);
        }
    }
    for number in [-20, -15, -10, -5, 0, 5, 10, 15, 20] {
        let tick = f64::from(number) * width;
        svg.line("axis", (x.at(tick), y.pixels.0), (x.at(tick), y.pixels.0 + 5.0));
        let beyond = match number {
            -20 => "≤ ",
            20 => "≥ ",
            _ => "",
        };
        let sign = if number > 0 { "+" } else { "" };
        svg.text(
            "",
            x.at(tick),
            y.pixels.0 + 22.0,
            Held::Middle,
            &format!("{beyond}{sign}{} %", round(tick)),
        );
    }
    let middle = (x.pixels.0 + x.pixels.1) / 2.0;
    svg.text("", middle, y.pixels.0 + 52.0, Held::Middle, "off the fair share, %");
    svg.upright(EDGE, (y.pixels.0 + y.pixels.1) / 2.0, "servers");
    svg.finish()
}

/// Off the fair share, in %, of every server that has one.
fn deviations(outcome: &Outcome, series: &Series) -> Vec<f64> {
    let shares = shares(outcome, series);
    let servers = outcome.servers.iter().zip(shares).filter(|(server, _)| server.fair > 0.0);
    servers.map(|(server, share)| share / server.fair - 100.0).collect()
}

fn legend(svg: &mut Svg, series: &[Series], marked: bool) {
    let mut left = EDGE;
    for series in series {
        svg.rect(series.class, (left, 91.0), (20.0, 12.0), 2.0);
        svg.text(series.text, left + 28.0, 101.0, Held::Start, series.name);
        left += 60.0 + 6.2 * float(series.name.chars().count() as u64);
    }
    if marked {
        svg.line("mark", (left + 8.0, 89.0), (left + 8.0, 105.0));
        svg.text("", left + 20.0, 101.0, Held::Start, "fair share");
    }
}

fn percent(part: f64) -> String {
    format!("{:+.1} %", 100.0 * part).replace('-', "−")
}

/// Without the noise of binary fractions.
fn round(value: f64) -> String {
    let rounded = (value * 1_000.0).round() / 1_000.0;
    rounded.to_string().replace('-', "−")
}

#[expect(clippy::cast_precision_loss, reason = "pixels")]
fn float(count: u64) -> f64 {
    count as f64
}
