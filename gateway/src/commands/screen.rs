//! The whole terminal, on which a command draws one picture over the other. It is as before when the command ends.

use std::io::{IsTerminal as _, Read as _};

use anyhow::Context as _;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio_util::sync::CancellationToken;

use super::output::print;

/// Takes the alternate screen, hides the cursor, and cuts long lines (xterm: DECSET 1049, 25, 7).
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";

/// The opposite.
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

/// Moves to the first line; clears the rest of the line; clears the rest of the screen (ECMA-48: CUP, EL, ED).
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_REST: &str = "\x1b[J";

/// The keys that end the command: q, Ctrl-C if it is no signal, and the end of the input.
const QUIT: [u8; 4] = [b'q', b'Q', 0x03, 0x04];

/// The lines of a terminal that does not say how many it has.
const ROWS: u16 = 24;

/// The terminal while a command has it.
pub(super) struct Screen {
    /// How keys were handled before, if standard input is a terminal.
    keys: Option<Termios>,
}

impl Screen {
    /// Takes the terminal. A key that ends the command cancels `stop`.
    pub(super) fn open(stop: CancellationToken) -> anyhow::Result<Self> {
        let stdin = std::io::stdin();
        let mut keys = None;
        if stdin.is_terminal() {
            let before = tcgetattr(&stdin).context("the terminal cannot be read")?;
            let mut single = before.clone();
            // Each key comes at once, and is not shown. Ctrl-C stays a signal.
            single.local_modes &= !(LocalModes::ICANON | LocalModes::ECHO);
            tcsetattr(&stdin, OptionalActions::Now, &single).context("the terminal cannot be set")?;
            keys = Some(before);
            // It waits for a key for ever, and ends with the process.
            std::thread::Builder::new().name("keys".into()).spawn(move || read_keys(&stop))?;
        }
        let screen = Self { keys };
        print(ENTER)?;
        Ok(screen)
    }

    /// Draws lines over those before. What does not fit is cut.
    pub(super) fn draw(&self, text: &str) -> anyhow::Result<()> {
        let rows = tcgetwinsize(std::io::stdout()).map_or(ROWS, |size| size.ws_row);
        print(&picture(text, rows.into()))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = print(LEAVE);
        if let Some(keys) = &self.keys {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, keys);
        }
    }
}

fn read_keys(stop: &CancellationToken) {
    let mut key = [0];
    while let Ok(1) = std::io::stdin().read(&mut key) {
        if QUIT.contains(&key[0]) {
            return stop.cancel();
        }
    }
}

/// The text that draws these lines on a terminal of so many rows. A terminal that says 0 does not know.
fn picture(text: &str, rows: usize) -> String {
    let rows = if rows == 0 { ROWS.into() } else { rows };
    let lines: Vec<_> = text.lines().take(rows).map(|line| format!("{line}{CLEAR_LINE}")).collect();
    format!("{HOME}{}{CLEAR_REST}", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_do_not_fit_are_cut() {
        assert_eq!(picture("a\nb\nc\n", 2), "\x1b[Ha\x1b[K\nb\x1b[K\x1b[J");
        assert_eq!(picture("a\n", 2), "\x1b[Ha\x1b[K\x1b[J");
        assert_eq!(picture(&"a\n".repeat(100), 0).matches('\n').count(), usize::from(ROWS) - 1);
    }
}
