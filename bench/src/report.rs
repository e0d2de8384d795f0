//! The table: one row for each contender, one column for each figure, and beside it what the figures were taken on.

use std::env;
use std::fmt::Write as _;
use std::time::Duration;

use crate::arena::{Arena, Run};
use crate::cli::{Cli, Guest};
use crate::contender::Contender;
use crate::machine;
use crate::statistics::Summary;

/// The heads of the columns. Ratios are taken within each round, where both had the same machine.
const HEADS: [&str; 10] = [
    "migrated by",
    "wall, s",
    "× floor",
    "QEMU's total, s",
    "own cost, ms",
    "× floor",
    "pause, guest, ms",
    "pause, QEMUs, ms",
    "completed → running, ms",
    "loaded → running, ms",
];

/// Everything about one guest.
#[derive(Debug)]
pub(crate) struct Report {
    facts: Vec<String>,
    contenders: Vec<Contender>,
    runs: Vec<(u32, Contender, Run)>,
}

impl Report {
    /// An empty one.
    pub(crate) fn new(cli: &Cli, guest: Guest, arena: &Arena, seed: u64) -> Self {
        let words: Vec<String> = env::args().skip(1).collect();
        let contenders = arena.contenders();
        let mut facts = vec![
            format!("Guest: {guest}"),
            format!("Command: ferry-bench {}", words.join(" ")),
            format!(
                "Rounds: {} in shuffled order (seed {seed}), after {} that do not count",
                cli.rounds, cli.warm_up
            ),
            format!("Machine: {}", machine::described()),
        ];
        facts.extend(arena.versions().into_iter().map(|version| format!("Version: {version}")));
        facts.extend(contenders.iter().map(|contender| format!("{contender}: {}", contender.shown())));
        facts.extend(arena.missing().iter().map(|why| why.lines().next().unwrap_or_default().to_owned()));
        Self { facts, contenders, runs: Vec::new() }
    }

    /// Adds what a contender took in a round.
    pub(crate) fn add(&mut self, round: u32, contender: Contender, run: Run) {
        self.runs.push((round, contender, run));
    }

    /// The report, as Markdown or as plain text.
    pub(crate) fn text(&self, markdown: bool) -> String {
        let mut text = String::new();
        for fact in self.facts.iter().chain(&self.surroundings()) {
            let _ = writeln!(text, "{}{fact}", if markdown { "- " } else { "" });
        }
        let _ = writeln!(text, "\nMedian (minimum … maximum):\n");
        let rows: Vec<Vec<String>> = self.contenders.iter().map(|contender| self.row(*contender)).collect();
        text + &table(&HEADS, &rows, markdown)
    }

    fn row(&self, contender: Contender) -> Vec<String> {
        let figure = |decimals: usize, of: &dyn Fn(&Run) -> f64| {
            shown(Summary::of(self.of(contender).map(|(_, run)| of(run))), decimals)
        };
        let to_floor = |of: &dyn Fn(&Run) -> f64| {
            let floor = |round| self.of(Contender::Floor).find(|(other, _)| *other == round);
            let ratios = self.of(contender).filter_map(|(round, run)| Some(of(run) / of(floor(round)?.1)));
            shown(Summary::of(ratios), 2)
        };
        vec![
            contender.to_string(),
            figure(3, &|run| run.wall.as_secs_f64()),
            to_floor(&|run| run.wall.as_secs_f64()),
            figure(3, &|run| run.timeline.total_ms / 1000.0),
            figure(0, &Run::own_cost_ms),
            to_floor(&Run::own_cost_ms),
            figure(0, &|run| ms(run.pause)),
            figure(0, &|run| run.timeline.stopped_ms),
            figure(1, &|run| run.timeline.completed_to_running_ms),
            shown(
                Summary::of(self.of(contender).filter_map(|(_, run)| run.timeline.loaded_to_running_ms)),
                1,
            ),
        ]
    }

    /// What the machine did meanwhile.
    fn surroundings(&self) -> [String; 3] {
        let all = |decimals: usize, of: &dyn Fn(&Run) -> f64| {
            shown(Summary::of(self.runs.iter().map(|(_, _, run)| of(run))), decimals)
        };
        [
            format!("Load average before the runs: {}", all(2, &|run| run.load)),
            format!("fdatasync of 4 KiB on the journals' disk, ms: {}", all(2, &|run| ms(run.fdatasync))),
            format!("Longest pause of a guest left alone, ms: {}", all(0, &|run| ms(run.noise))),
        ]
    }

    fn of(&self, contender: Contender) -> impl Iterator<Item = (u32, &Run)> {
        self.runs.iter().filter(move |(_, other, _)| *other == contender).map(|(round, _, run)| (*round, run))
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn shown(summary: Option<Summary>, decimals: usize) -> String {
    summary.map_or_else(|| "-".to_owned(), |summary| summary.shown(decimals))
}

/// Cells padded to the widest of their column.
pub(crate) fn table(heads: &[&str], rows: &[Vec<String>], markdown: bool) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([heads[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let line = |cells: &[String]| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
        let joined = padded.join(if markdown { " | " } else { "   " });
        if markdown { format!("| {joined} |\n") } else { format!("{}\n", joined.trim_end()) }
    };
    let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
    let rule: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
    let mut text = line(&heads);
    text += &if markdown { format!("|-{}-|\n", rule.join("-|-")) } else { line(&rule) };
    for row in rows {
        text += &line(row);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tap::Timeline;

    fn run(wall_ms: u64, total_ms: f64) -> Run {
        Run {
            wall: Duration::from_millis(wall_ms),
            timeline: Timeline {
                total_ms,
                stopped_ms: 30.0,
                completed_to_running_ms: 1.26,
                loaded_to_running_ms: None,
            },
            pause: Duration::from_millis(33),
            noise: Duration::from_millis(3),
            fdatasync: Duration::from_micros(250),
            load: 0.5,
        }
    }

    fn report() -> Report {
        let contenders = vec![Contender::Ferry, Contender::Floor];
        let mut report = Report { facts: vec!["Guest: small".into()], contenders, runs: Vec::new() };
        report.add(0, Contender::Ferry, run(400, 300.0));
        report.add(0, Contender::Floor, run(200, 150.0));
        report.add(1, Contender::Floor, run(400, 360.0));
        report.add(1, Contender::Ferry, run(480, 360.0));
        report
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let row = report().row(Contender::Ferry);
        assert_eq!(row[1], "0.440 (0.400 … 0.480)");
        assert_eq!(row[2], "1.60 (1.20 … 2.00)");
        assert_eq!(row[4], "110 (100 … 120)");
        assert_eq!(row[5], "2.50 (2.00 … 3.00)");
        assert_eq!(row[8..], ["1.3 (1.3 … 1.3)", "-"]);
    }

    #[test]
    fn without_a_floor_there_are_no_ratios_and_without_runs_no_figures() {
        let mut report = report();
        report.runs.retain(|(_, contender, _)| *contender != Contender::Floor);
        assert_eq!(report.row(Contender::Ferry)[2], "-");
        assert_eq!(report.row(Contender::Floor)[1], "-");
    }

    #[test]
    fn both_forms_have_every_row_and_all_that_surrounds() {
        let report = report();
        let markdown = report.text(true);
        let rows: Vec<&str> = markdown.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(rows.len(), 4, "{markdown}");
        assert!(rows.iter().all(|row| row.matches('|').count() == HEADS.len() + 1), "{markdown}");
        assert!(markdown.contains("- Guest: small\n- Load average before the runs: 0.50 "), "{markdown}");
        let plain = report.text(false);
        assert!(plain.contains("\nfdatasync of 4 KiB on the journals' disk, ms: 0.25 "), "{plain}");
        assert!(!plain.contains('|'), "{plain}");
    }
}
