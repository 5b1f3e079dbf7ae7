//! What was measured, as a table and as JSON (pure).

use serde::Serialize;

/// One figure beside its target and its floor.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) name: String,
    /// The figure, in `unit`.
    pub(crate) figure: f64,
    /// `ms`, `MB`, `bytes`, `KB`, `%` or `1/s`.
    pub(crate) unit: &'static str,
    /// The design target, if the row has one.
    pub(crate) target: Option<Target>,
    /// What the machine does at best, in the same unit.
    pub(crate) floor: Option<Floor>,
    /// How many samples the figure rests on.
    pub(crate) samples: usize,
    /// What else is worth knowing.
    pub(crate) note: String,
}

/// The side of a limit a figure should be on.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(tag = "is", content = "limit", rename_all = "snake_case")]
pub(crate) enum Target {
    /// Less is better.
    Below(f64),
    /// More is better.
    Above(f64),
}

/// The same thing done with nothing of ours in the way.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Floor {
    /// What was done.
    pub(crate) name: &'static str,
    /// How it went, in the row's unit.
    pub(crate) figure: f64,
}

impl Row {
    /// A figure without target, floor and note.
    pub(crate) fn new(
        name: impl Into<String>,
        figure: f64,
        unit: &'static str,
        samples: usize,
    ) -> Self {
        Self {
            name: name.into(),
            figure,
            unit,
            target: None,
            floor: None,
            samples,
            note: String::new(),
        }
    }

    /// Adds a target that is met from below.
    pub(crate) fn below(mut self, limit: f64) -> Self {
        self.target = Some(Target::Below(limit));
        self
    }

    /// Adds a target that is met from above.
    pub(crate) fn above(mut self, limit: f64) -> Self {
        self.target = Some(Target::Above(limit));
        self
    }

    /// Adds a floor.
    pub(crate) fn floor(mut self, name: &'static str, figure: f64) -> Self {
        self.floor = Some(Floor { name, figure });
        self
    }

    /// Adds a note.
    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// Whether the target is met; rows without one have nothing to miss.
    pub(crate) fn met(&self) -> Option<bool> {
        Some(match self.target? {
            Target::Below(limit) => self.figure < limit,
            Target::Above(limit) => self.figure > limit,
        })
    }
}

/// Where and with what the rows were measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    /// What the measured program says its version is.
    pub(crate) version: String,
    /// Processors this process may use.
    pub(crate) cores: usize,
    /// `uname -sr`.
    pub(crate) kernel: String,
    /// The file system below the data directory.
    pub(crate) file_system: String,
    /// The load average of the last minute before the run: above zero, others took part.
    pub(crate) load: String,
    /// The store that was measured.
    pub(crate) store: &'static str,
}

/// One run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Where and with what.
    pub(crate) machine: Machine,
    /// How long the run took, in seconds.
    pub(crate) seconds: f64,
    /// The rows, in the order they ran.
    pub(crate) rows: Vec<Row>,
    /// Rows that could not be measured, and why.
    pub(crate) failures: Vec<String>,
}

impl Report {
    /// The report as a table for people.
    pub(crate) fn table(&self) -> String {
        let machine = &self.machine;
        let mut lines = vec![
            format!(
                "{} on {}, {} cores (load {} before), data on {}, {} store",
                machine.version,
                machine.kernel,
                machine.cores,
                machine.load,
                machine.file_system,
                machine.store
            ),
            String::new(),
        ];
        let heads = ["figure", "measured", "target", "", "floor", "n", "note"];
        let mut cells = vec![heads.map(str::to_owned)];
        cells.extend(self.rows.iter().map(cells_of));
        let width = |column: usize| {
            let widths = cells.iter().map(|row| row[column].chars().count());
            widths.max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..heads.len() - 1).map(width).collect();
        for row in &cells {
            let padded = widths
                .iter()
                .zip(row)
                .map(|(&width, cell)| format!("{cell:<width$}"));
            let mut line = padded.collect::<Vec<_>>().join("  ");
            line.push_str("  ");
            line.push_str(&row[heads.len() - 1]);
            lines.push(line.trim_end().to_owned());
        }
        for failure in &self.failures {
            lines.push(format!("NOT MEASURED  {failure}"));
        }
        lines.push(format!("\n{:.0} s in all", self.seconds));
        lines.join("\n")
    }
}

fn cells_of(row: &Row) -> [String; 7] {
    let target = match row.target {
        Some(Target::Below(limit)) => format!("< {}", number(limit)),
        Some(Target::Above(limit)) => format!("> {}", number(limit)),
        None => String::new(),
    };
    let verdict = match row.met() {
        Some(true) => "met",
        Some(false) => "MISSED",
        None => "",
    };
    let floor = row.floor.as_ref();
    let floor = floor.map_or(String::new(), |floor| {
        format!("{} ({})", number(floor.figure), floor.name)
    });
    [
        row.name.clone(),
        format!("{} {}", number(row.figure), row.unit),
        target,
        verdict.to_owned(),
        floor,
        row.samples.to_string(),
        row.note.clone(),
    ]
}

/// Three significant digits, more only for whole numbers.
pub(crate) fn number(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude >= 100.0 || value == 0.0 {
        format!("{value:.0}")
    } else if magnitude >= 10.0 {
        trim(format!("{value:.1}"))
    } else {
        trim(format!("{value:.2}"))
    }
}

fn trim(text: String) -> String {
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, shown) in [
            (0.0, "0"),
            (0.126, "0.13"),
            (2.0, "2"),
            (12.34, "12.3"),
            (99.96, "100"),
            (1234.5, "1234"),
            (-3.5, "-3.5"),
        ] {
            assert_eq!(number(value), shown);
        }
    }

    #[test]
    fn a_row_shows_its_verdict_and_floor() {
        let report = Report {
            machine: Machine {
                version: "manyhands 0.1.0".to_owned(),
                cores: 2,
                kernel: "Linux".to_owned(),
                file_system: "ext4".to_owned(),
                load: "0.00".to_owned(),
                store: "SQLite",
            },
            seconds: 3.0,
            rows: vec![
                Row::new("create session p50", 2.5, "ms", 100)
                    .below(2.0)
                    .floor("one fsync", 0.5),
                Row::new("turns", 700.0, "1/s", 3000)
                    .above(500.0)
                    .note("busy"),
            ],
            failures: vec!["bash: no sandbox".to_owned()],
        };
        let table = report.table();
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let lines: Vec<String> = table.lines().map(words).collect();
        assert!(
            lines.contains(&"create session p50 2.5 ms < 2 MISSED 0.5 (one fsync) 100".to_owned()),
            "{table}"
        );
        assert!(
            lines.contains(&"turns 700 1/s > 500 met 3000 busy".to_owned()),
            "{table}"
        );
        assert!(
            lines.contains(&"NOT MEASURED bash: no sandbox".to_owned()),
            "{table}"
        );
    }
}
