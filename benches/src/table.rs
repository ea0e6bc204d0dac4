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
    /// The largest median that is good enough.
    pub at_most: Option<f64>,
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

    fn holds(&self) -> bool {
        self.at_most.is_none_or(|most| self.median() <= most)
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
                    "peerRecorded": row.peer.map(|(_, recorded)| recorded), "atMost": row.at_most,
                    "holds": row.holds(),
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
            let ratio = row.peer.map_or("-".into(), |(figure, _)| format!("{:.3}", row.median() / figure));
            let aim = match row.at_most {
                Some(most) => format!("≤ {most}{}", if row.holds() { "" } else { "  MISSED" }),
                None => String::new(),
            };
            writeln!(
                f,
                "{:<52} {:>6} {:>4} {:>10.1} {:>10.1} {peer:>18} {ratio:>8}  {aim}",
                row.name,
                row.unit,
                row.samples.len(),
                row.median(),
                row.quantile(0.99)
            )?;
        }
        Ok(())
    }
}
