//! Pictures as SVG that stand alone: light or dark as the reader's system is, every figure as text, no script.

use std::fmt::{self, Write as _};

/// Slate neutrals and Okabe–Ito's colours. The dark rules override; what does not know the media query shows the light ones.
const STYLE: &str = "\
text{font-family:Inter,system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans','DejaVu Sans',sans-serif;font-size:12px;fill:#475569;font-variant-numeric:tabular-nums}\
.card{fill:#fff;stroke:#e2e8f0}.title{font-size:20px;font-weight:600;fill:#0f172a}.sub{font-size:14px;fill:#475569}\
.strong{font-weight:600;fill:#0f172a}.grid{stroke:#e2e8f0}.axis{stroke:#94a3b8}.halo{stroke:#fff;stroke-width:4;stroke-linejoin:round;paint-order:stroke}\
.band{fill-opacity:.16}.a{stroke:#0072b2}.a-fill{fill:#0072b2}.a-text{fill:#005f95;font-weight:600}\
.b{stroke:#d55e00}.b-fill{fill:#d55e00}.b-text{fill:#b04e00;font-weight:600}.soft{fill:#94a3b8;fill-opacity:.55}\
.line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}.thin{stroke:#334155;stroke-width:1.25}.dash{stroke-dasharray:5 4}.dot{stroke:#fff;stroke-width:2}.mark{stroke:#0f172a;stroke-width:2}\
@media (prefers-color-scheme:dark){text{fill:#a8b3c4}.card{fill:#0f172a;stroke:#273449}.title,.strong{fill:#f1f5f9}.sub{fill:#a8b3c4}\
.grid{stroke:#223047}.axis{stroke:#64748b}.halo{stroke:#0f172a}.a{stroke:#56b4e9}.a-fill{fill:#56b4e9}.a-text{fill:#7cc7f2}\
.b{stroke:#e69f00}.b-fill{fill:#e69f00}.b-text{fill:#f0b53a}.soft{fill:#94a3b8;fill-opacity:.45}.thin{stroke:#cbd5e1}.dot{stroke:#0f172a}.mark{stroke:#f1f5f9}}";

/// Space between the picture's edge and what is in it.
pub(super) const EDGE: f64 = 32.0;

/// A picture in the making; positions are in pixels, from the top left.
pub(super) struct Svg {
    body: String,
    width: f64,
    height: f64,
}

/// Where a text is held.
#[derive(Debug, Clone, Copy)]
pub(super) enum Held {
    Start,
    Middle,
    End,
}

/// Values to pixels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    pub(super) values: (f64, f64),
    pub(super) pixels: (f64, f64),
}

// === impl Svg ===

impl Svg {
    /// A card with a title, what it shows in a sentence, and nothing else yet. The description is for those who do not see it.
    pub(super) fn new(width: f64, height: f64, title: &str, subtitle: &str, description: &str) -> Self {
        let mut svg = Self { body: String::new(), width, height };
        svg.put(format_args!("<title>{}</title><desc>{}</desc>\n", escaped(title), escaped(description)));
        let (inner, tall) = (width - 1.0, height - 1.0);
        svg.put(format_args!(
            "<rect class=\"card\" x=\".5\" y=\".5\" width=\"{inner}\" height=\"{tall}\" rx=\"12\"/>\n"
        ));
        svg.text("title", EDGE, 48.0, Held::Start, title);
        svg.text("sub", EDGE, 72.0, Held::Start, subtitle);
        svg
    }

    pub(super) fn text(&mut self, class: &str, x: f64, y: f64, held: Held, text: &str) {
        let anchor = match held {
            Held::Start => "",
            Held::Middle => " text-anchor=\"middle\"",
            Held::End => " text-anchor=\"end\"",
        };
        self.put(format_args!(
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\"{anchor}>{}</text>\n",
            escaped(text)
        ));
    }

    /// Text along a vertical axis.
    pub(super) fn upright(&mut self, x: f64, y: f64, text: &str) {
        let text = escaped(text);
        self.put(format_args!(
            "<text text-anchor=\"middle\" transform=\"translate({x:.1} {y:.1}) rotate(-90)\">{text}</text>\n"
        ));
    }

    pub(super) fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.put(format_args!(
            "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>\n"
        ));
    }

    pub(super) fn rect(&mut self, class: &str, at: (f64, f64), size: (f64, f64), radius: f64) {
        let ((x, y), (width, height)) = (at, size);
        self.put(format_args!(
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"{radius}\"/>\n"
        ));
    }

    pub(super) fn dot(&mut self, class: &str, (x, y): (f64, f64)) {
        self.put(format_args!("<circle class=\"dot {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\"/>\n"));
    }

    /// A line through points; closed, it is an area.
    pub(super) fn path(&mut self, class: &str, points: impl IntoIterator<Item = (f64, f64)>, closed: bool) {
        self.put(format_args!("<path class=\"{class}\" d=\""));
        for (at, (x, y)) in points.into_iter().enumerate() {
            self.put(format_args!("{}{x:.1} {y:.1}", if at == 0 { 'M' } else { 'L' }));
        }
        self.put(format_args!("{}\"/>\n", if closed { "Z" } else { "" }));
    }

    pub(super) fn finish(self) -> String {
        let Self { body, width, height } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\">\n\
             <style>{STYLE}</style>\n{body}</svg>\n"
        )
    }

    fn put(&mut self, what: fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.body.write_fmt(what);
    }
}

// === impl Scale ===

impl Scale {
    /// Where a value is; what is outside is at the end.
    pub(super) fn at(&self, value: f64) -> f64 {
        let ((low, high), (start, end)) = (self.values, self.pixels);
        let part = ((value - low) / (high - low)).clamp(0.0, 1.0);
        start + part * (end - start)
    }

    /// Round values, from the least to the most, about so many.
    pub(super) fn ticks(&self, about: f64) -> Vec<f64> {
        let step = step((self.values.1 - self.values.0) / about);
        let first = (self.values.0 / step).ceil();
        let tick = |number: u32| (first + f64::from(number)) * step;
        (0..100).map(tick).take_while(|tick| *tick <= self.values.1 * (1.0 + 1e-9)).collect()
    }
}

/// The least of 1, 2, 5, 10, 20 … that is not less.
pub(super) fn step(least: f64) -> f64 {
    let decade = 10_f64.powf(least.log10().floor());
    let part = least / decade;
    decade * [1.0, 2.0, 5.0].into_iter().find(|round| *round >= part - 1e-9).unwrap_or(10.0)
}

/// 10,000 rather than 10000.
pub(super) fn grouped(number: u32) -> String {
    let digits = number.to_string();
    let mut told = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            told.push(',');
        }
        told.push(digit);
    }
    told
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
