//! Rows of measurements, as text and as JSON.

use std::fmt;

use serde_json::{Value, json};

/// One measurement.
pub struct Row {
    /// What was measured.
    pub name: &'static str,
    /// The unit of all figures of the row.
    pub unit: &'static str,
    /// Our samples.
    pub samples: Vec<f64>,
    /// The peer's figure and whether it was recorded elsewhere.
    pub peer: Option<(f64, bool)>,
    /// What is good enough.
    pub aim: Aim,
}

/// What is good enough for a row.
#[derive(Clone, Copy)]
pub enum Aim {
    /// Nothing in particular: the figure is there to be read.
    None,
    /// A median of at most this.
    AtMost(f64),
    /// Of the peer's figure, at most this part: for costs.
    RatioAtMost(f64),
    /// Of the peer's figure, at least this many times: for rates.
    RatioAtLeast(f64),
}

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Aim::None => Ok(()),
            Aim::AtMost(most) => write!(f, "≤ {most}"),
            Aim::RatioAtMost(most) => write!(f, "ratio ≤ {most:.3}"),
            Aim::RatioAtLeast(least) => write!(f, "ratio ≥ {least}"),
        }
    }
}

impl Row {
    fn quantile(&self, q: f64) -> f64 {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1);
        sorted.get((last as f64 * q).round() as usize).copied().unwrap_or(f64::NAN)
    }

    /// The median of our samples.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// Our median as a part of the peer's figure.
    fn ratio(&self) -> Option<f64> {
        self.peer.map(|(figure, _)| self.median() / figure)
    }

    fn holds(&self) -> bool {
        match self.aim {
            Aim::None => true,
            Aim::AtMost(most) => self.median() <= most,
            Aim::RatioAtMost(most) => self.ratio().is_some_and(|ratio| ratio <= most),
            Aim::RatioAtLeast(least) => self.ratio().is_some_and(|ratio| ratio >= least),
        }
    }
}

/// The rows of one run.
#[derive(Default)]
pub struct Table {
    /// The rows.
    pub rows: Vec<Row>,
}

impl Table {
    /// Whether every row meets its aim.
    pub fn holds(&self) -> bool {
        self.rows.iter().all(Row::holds)
    }

    /// The rows as JSON.
    pub fn json(&self) -> Value {
        self.rows
            .iter()
            .map(|row| {
                json!({
                    "name": row.name, "unit": row.unit, "samples": row.samples.len(), "median": row.median(),
                    "p99": row.quantile(0.99), "peer": row.peer.map(|(figure, _)| figure),
                    "peerRecorded": row.peer.map(|(_, recorded)| recorded), "ratio": row.ratio(),
                    "aim": row.aim.to_string(), "holds": row.holds(),
                })
            })
            .collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<52} {:>6} {:>4} {:>10} {:>10} {:>18} {:>8}  aim",
            "what", "unit", "n", "median", "p99", "peer", "ratio"
        )?;
        for row in &self.rows {
            let peer = match row.peer {
                Some((figure, true)) => format!("{figure} (recorded)"),
                Some((figure, false)) => format!("{figure:.1}"),
                None => "-".into(),
            };
            let ratio = row.ratio().map_or("-".into(), |ratio| format!("{ratio:.3}"));
            let missed = if row.holds() { "" } else { "  MISSED" };
            writeln!(
                f,
                "{:<52} {:>6} {:>4} {:>10.1} {:>10.1} {peer:>18} {ratio:>8}  {}{missed}",
                row.name,
                row.unit,
                row.samples.len(),
                row.median(),
                row.quantile(0.99),
                row.aim
            )?;
        }
        Ok(())
    }
}
