//! How a long run talks: numbered steps, the command that each ran, what it printed and how long it
//! took; a spinner on what is long, where a person is watching.

use std::io::IsTerminal;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

use crate::process;

/// Tells a story in steps.
pub struct Narrator {
    step: usize,
    steps: usize,
    colour: bool,
    begun: Instant,
}

impl Narrator {
    /// A story of so many steps.
    pub fn new(steps: usize) -> Self {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { step: 0, steps, colour, begun: Instant::now() }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        match self.colour {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_string(),
        }
    }

    /// Begins the next step.
    pub fn step(&mut self, title: &str) {
        self.step += 1;
        let head = format!("[{}/{}] {title}", self.step, self.steps);
        println!("\n{}", self.paint("1;36", &head));
    }

    /// Says something in a step.
    pub fn say(&self, text: &str) {
        for line in text.lines() {
            println!("      {line}");
        }
    }

    /// Shows a command before it is run.
    pub fn command(&self, text: &str) {
        println!("    {} {}", self.paint("2", "$"), self.paint("1", text));
    }

    /// Shows what came out, each line marked; at most `most` lines, the last ones when cut.
    pub fn output(&self, text: &str, most: usize) {
        let lines: Vec<&str> = text.trim_end().lines().collect();
        let cut = lines.len().saturating_sub(most);
        if cut > 0 {
            println!("    {} … {cut} lines before these", self.paint("2", "│"));
        }
        for line in lines.iter().skip(cut) {
            println!("    {} {line}", self.paint("2", "│"));
        }
    }

    /// Says how long something took.
    pub fn took(&self, what: &str, time: Duration) {
        println!("    {} {what} ({})", self.paint("32", "✓"), seconds(time));
    }

    /// Does something long, with a spinner where a person is watching, and says how long it took.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn during<T>(&self, what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let start = Instant::now();
        let spinner = std::io::stderr().is_terminal().then(|| {
            let spinner = ProgressBar::new_spinner();
            let style = ProgressStyle::with_template("    {spinner:.cyan} {msg} {elapsed:.dim}");
            spinner.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            spinner.set_message(what.to_string());
            spinner.enable_steady_tick(Duration::from_millis(100));
            spinner
        });
        if spinner.is_none() {
            println!("    … {what}");
        }
        let result = work();
        if let Some(spinner) = spinner {
            spinner.finish_and_clear();
        }
        if result.is_ok() {
            self.took(what, start.elapsed());
        }
        result
    }

    /// Shows and runs a command of the host that must succeed.
    ///
    /// # Errors
    /// What the command said.
    pub fn run(&self, what: &str, command: &mut Command, limit: Duration) -> Result<String> {
        self.command(&process::show(command));
        self.during(what, || process::check(command, limit))
    }

    /// The time since the story began.
    pub fn so_far(&self) -> Duration {
        self.begun.elapsed()
    }

    /// A line that stands out.
    pub fn headline(&self, text: &str) {
        println!("\n{}", self.paint("1;32", text));
    }
}

/// A duration as a person says it.
pub fn seconds(time: Duration) -> String {
    match time.as_secs() {
        0..=119 => format!("{:.1} s", time.as_secs_f64()),
        long => format!("{} min {} s", long / 60, long % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_said_as_people_do() {
        assert_eq!(seconds(Duration::from_millis(1240)), "1.2 s");
        assert_eq!(seconds(Duration::from_secs(125)), "2 min 5 s");
    }
}
