//! The terminal of the progress bar. It writes through the queue of the log, so that a terminal that is stopped with Ctrl-S does
//! not block the program.

use std::io::{self, Write as _};

use indicatif::TermLike;

use crate::output::log::LogWriter;

/// The columns of a terminal that does not report its width.
const DEFAULT_WIDTH: u16 = 80;

/// Standard error.
#[derive(Debug)]
pub(super) struct Terminal;

impl Terminal {
    /// Writes a control sequence, unless it would not move the cursor.
    fn write_control(&self, times: usize, letter: char) -> io::Result<()> {
        if times == 0 { Ok(()) } else { self.write_str(&format!("\x1b[{times}{letter}")) }
    }
}

impl TermLike for Terminal {
    fn width(&self) -> u16 {
        rustix::termios::tcgetwinsize(rustix::stdio::stderr()).map_or(DEFAULT_WIDTH, |size| size.ws_col)
    }

    fn move_cursor_up(&self, lines: usize) -> io::Result<()> {
        self.write_control(lines, 'A')
    }

    fn move_cursor_down(&self, lines: usize) -> io::Result<()> {
        self.write_control(lines, 'B')
    }

    fn move_cursor_right(&self, columns: usize) -> io::Result<()> {
        self.write_control(columns, 'C')
    }

    fn move_cursor_left(&self, columns: usize) -> io::Result<()> {
        self.write_control(columns, 'D')
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.write_str(&format!("{text}\n"))
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        LogWriter.write_all(text.as_bytes())
    }

    fn clear_line(&self) -> io::Result<()> {
        self.write_str("\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}
