//! The classic picture: the more points a server has, the more evenly keys are spread.

use super::chart::{EDGE, Held, Scale, Svg, grouped, step};
use super::replicas::{Band, Question, Study};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 560.0;

/// Points that get their figures.
const TOLD: [u16; 7] = [1, 10, 50, 100, 200, 500, 4_000];

pub(super) fn draw(study: &Study) -> String {
    let Question { servers, keys, most } = study.question;
    let (servers, keys) = (grouped(servers), grouped(keys));
    // The bands of the first few points may be cut off.
    let top = study.one.iter().map(|spread| spread.classic).fold(study.classic(1), f64::max);
    let top = (top / step(top / 6.0)).ceil() * step(top / 6.0);
    let x = Scale { values: (0.0, f64::from(most)), pixels: (EDGE + 56.0, WIDTH - EDGE - 16.0) };
    let y = Scale { values: (0.0, top), pixels: (HEIGHT - 84.0, 112.0) };
    let mut svg = Svg::new(
        WIDTH,
        HEIGHT,
        "More points, more even shares",
        &format!(
            "{servers} servers, {keys} keys. Standard deviation of the keys that a server gets, in % of the mean."
        ),
        &format!(
            "Line chart: from 1 to {most} points a server, the deviation falls with the square root of their number."
        ),
    );
    axes(&mut svg, x, y);
    for (class, of) in [("band b-fill", classic as fn(&Band) -> (f64, f64)), ("band a-fill", ours)] {
        let edge = |high: bool| {
            study.many.iter().map(move |band| {
                let (low, top) = of(band);
                (x.at(f64::from(band.points)), y.at(if high { top } else { low }))
            })
        };
        svg.path(class, edge(true).chain(edge(false).collect::<Vec<_>>().into_iter().rev()), true);
    }
    let line = |value: &dyn Fn(u16) -> f64| -> Vec<(f64, f64)> {
        (1..=most).map(|points| (x.at(f64::from(points)), y.at(value(points)))).collect()
    };
    let seen = |points: u16| study.at(points);
    svg.path("line b", line(&|points| seen(points).map_or(0.0, |spread| spread.classic)), false);
    svg.path("line a", line(&|points| seen(points).map_or(0.0, |spread| spread.ours)), false);
    svg.path("line thin dash", line(&|points| study.classic(points)), false);
    svg.path("line thin dash", line(&|points| study.ours(points)), false);
    for spread in TOLD.into_iter().filter(|points| *points <= most).filter_map(seen) {
        let left = x.at(f64::from(spread.points));
        svg.dot("b-fill", (left, y.at(spread.classic)));
        svg.dot("a-fill", (left, y.at(spread.ours)));
    }
    figures(&mut svg, study, (x.at(f64::from(most) * 0.18), 128.0), x.pixels.1);
    svg.finish()
}

fn classic(band: &Band) -> (f64, f64) {
    band.classic
}

fn ours(band: &Band) -> (f64, f64) {
    band.ours
}

fn axes(svg: &mut Svg, x: Scale, y: Scale) {
    let ((left, right), (bottom, top)) = (x.pixels, y.pixels);
    for tick in y.ticks(6.0) {
        svg.line(if tick > 0.0 { "grid" } else { "axis" }, (left, y.at(tick)), (right, y.at(tick)));
        svg.text("", left - 10.0, y.at(tick) + 4.0, Held::End, &format!("{tick} %"));
    }
    for tick in x.ticks(10.0) {
        // A server has a point at least.
        let tick = tick.max(1.0);
        svg.line("axis", (x.at(tick), bottom), (x.at(tick), bottom + 5.0));
        svg.text("", x.at(tick), bottom + 22.0, Held::Middle, &tick.to_string());
    }
    svg.text(
        "",
        (left + right) / 2.0,
        bottom + 52.0,
        Held::Middle,
        "points of a server on the ring (replicas)",
    );
    svg.upright(EDGE, (top + bottom) / 2.0, "standard deviation, % of the mean");
}

/// The legend, and with it the figures, where the curves leave room for them.
fn figures(svg: &mut Svg, study: &Study, (left, top): (f64, f64), right: f64) {
    let told: Vec<_> = TOLD.into_iter().filter_map(|points| study.at(points)).collect();
    let row = |number: f64| top + 28.0 * number;
    let text = left + 40.0;
    let column =
        |number: usize| right - 64.0 * f64::from(u16::try_from(told.len() - 1 - number).unwrap_or(0));
    svg.rect("card", (left - 20.0, top - 16.0), (right - left + 36.0, 160.0), 12.0);
    svg.text("", text, row(0.35), Held::Start, "points of a server");
    for (number, (points, spread)) in told.iter().map(|spread| spread.points).zip(&told).enumerate() {
        svg.text("strong", column(number), row(0.35), Held::End, &grouped(u32::from(points)));
        svg.text("b-text", column(number), row(1.5), Held::End, &format!("{:.1} %", spread.classic));
        svg.text("a-text", column(number), row(2.5), Held::End, &format!("{:.1} %", spread.ours));
    }
    svg.line("grid", (left - 20.0, row(0.75)), (right + 16.0, row(0.75)));
    svg.line("line b", (left, row(1.5) - 4.0), (left + 28.0, row(1.5) - 4.0));
    svg.text("b-text", text, row(1.5), Held::Start, "classic ring");
    svg.line("line a", (left, row(2.5) - 4.0), (left + 28.0, row(2.5) - 4.0));
    svg.text("a-text", text, row(2.5), Held::Start, "XPUSH: two places a key");
    svg.line("line thin dash", (left, row(3.5) - 4.0), (left + 28.0, row(3.5) - 4.0));
    svg.text("", text, row(3.5), Held::Start, "what chance gives on average");
    svg.rect("band a-fill", (left, row(4.5) - 12.0), (28.0, 16.0), 3.0);
    let keys = grouped(study.question.keys);
    let rest = format!(
        "fleets of other names, eight in ten; with {keys} keys {:.1} % are left in any case",
        study.least()
    );
    svg.text("", text, row(4.5), Held::Start, &rest);
}
