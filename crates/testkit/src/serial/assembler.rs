//! Puts lines together from the bytes of several logs of one guest. Pure.

use std::collections::BTreeMap;

/// What begins a line of the guest's own.
const PREFIX: &str = "ferry-guest ";

/// The longest line that is kept, in bytes; a longer one is cut there.
const LINE_MAX: usize = 4096;

/// Bytes in, lines out.
#[derive(Clone, Debug, Default)]
pub struct Assembler {
    /// The unfinished line of each port.
    open: BTreeMap<usize, Vec<u8>>,
    /// The port that spoke last.
    last: Option<usize>,
}

impl Assembler {
    /// Takes what `port` wrote, gives the lines that it ends. When another port spoke before and was cut off in the
    /// middle of a line, the line goes on here: the guest was stopped there and went on here.
    pub fn take(&mut self, port: usize, bytes: &[u8]) -> Vec<(usize, String)> {
        if bytes.is_empty() {
            return Vec::new();
        }
        if let Some(last) = self.last.replace(port)
            && last != port
            && let Some(head) = self.open.remove(&last)
        {
            let own = self.open.insert(port, head);
            // Two guests that speak at the same time leave such halves on both sides; each line is then looked at from
            // its last prefix on, so that a whole one behind a half one still counts.
            self.open.entry(port).or_default().extend(own.unwrap_or_default());
        }
        let open = self.open.entry(port).or_default();
        let mut lines = Vec::new();
        for &byte in bytes {
            match byte {
                b'\n' => {
                    lines.push((port, clean(open)));
                    open.clear();
                }
                _ if open.len() < LINE_MAX => open.push(byte),
                _ => {}
            }
        }
        if open.is_empty() {
            self.open.remove(&port);
        }
        lines
    }
}

/// The line as text, from the guest's last prefix on when it has one: firmware and kernel write without line ends.
fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_end_matches('\r');
    text.rfind(PREFIX).map_or(text, |at| &text[at..]).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(assembler: &mut Assembler, port: usize, text: &str) -> Vec<String> {
        assembler.take(port, text.as_bytes()).into_iter().map(|(_, line)| line).collect()
    }

    #[test]
    fn a_line_that_was_cut_goes_on_at_the_other_port() {
        let mut assembler = Assembler::default();
        assert_eq!(take(&mut assembler, 0, "one\ntw"), ["one"]);
        assert_eq!(take(&mut assembler, 1, "o\nthree\n"), ["two", "three"]);
        assert_eq!(take(&mut assembler, 0, "four\n"), ["four"]);
    }

    #[test]
    fn a_clean_change_joins_nothing() {
        let mut assembler = Assembler::default();
        assert_eq!(take(&mut assembler, 0, "one\n"), ["one"]);
        assert_eq!(take(&mut assembler, 1, "two\n"), ["two"]);
    }

    #[test]
    fn two_guests_that_speak_at_once_are_both_heard() {
        let mut assembler = Assembler::default();
        assert!(take(&mut assembler, 0, "ferry-guest beat se").is_empty());
        assert_eq!(take(&mut assembler, 1, "ferry-guest beat seq=5\n"), ["ferry-guest beat seq=5"]);
        assert_eq!(
            take(&mut assembler, 0, "q=5\nferry-guest beat seq=6\n").last().unwrap(),
            "ferry-guest beat seq=6"
        );
    }

    #[test]
    fn an_endless_line_takes_no_endless_memory() {
        let mut assembler = Assembler::default();
        for _ in 0..100 {
            assembler.take(0, &[b'x'; 1000]);
        }
        assert_eq!(take(&mut assembler, 0, "\n")[0].len(), LINE_MAX);
    }
}
