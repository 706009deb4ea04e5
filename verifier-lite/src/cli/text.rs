//! Text that fits 80 columns.

/// Widest line.
const WIDTH: usize = 80;

/// `text` broken at spaces, every line after `indent` spaces, the first after `lead` instead.
pub(super) fn wrap(lead: &str, indent: usize, text: &str) -> String {
    let mut out = String::new();
    let mut line = lead.to_owned();
    let mut empty = true;
    for word in text.split(' ') {
        if !empty && width(&line) + 1 + width(word) > WIDTH {
            out.push_str(line.trim_end());
            out.push('\n');
            line = " ".repeat(indent);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    out.push_str(line.trim_end());
    out.push('\n');
    out
}

/// Rows in columns of at most these widths; the last column takes what is left of the line.
pub(super) fn table<const N: usize>(widest: [usize; N], rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            widths[column] = widths[column].max(width(cell)).min(widest[column]);
        }
    }
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let room = if column + 1 == N {
                WIDTH.saturating_sub(width(&line))
            } else {
                widths[column]
            };
            let cell = shorten(cell, room);
            line.push_str(&cell);
            line.push_str(&" ".repeat((widths[column] + 2).saturating_sub(width(&cell))));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// `text` in at most `room` characters; what is cut off is marked.
pub(super) fn shorten(text: &str, room: usize) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(room.saturating_sub(1)).collect();
    short.push('…');
    short
}

fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapped_text_keeps_every_word_and_the_width() {
        let words = "word ".repeat(60);
        let text = wrap("  Cause: ", 9, words.trim_end());
        assert!(
            text.lines().all(|line| line.chars().count() <= WIDTH),
            "{text}"
        );
        assert!(
            text.lines()
                .skip(1)
                .all(|line| line.starts_with("         word"))
        );
        assert_eq!(text.matches("word").count(), 60);
    }

    #[test]
    fn a_table_never_exceeds_the_width() {
        let row = [(); 3].map(|()| "long".repeat(30));
        let text = table([8, 20, 80], &[row, ["a".into(), String::new(), "b".into()]]);
        assert!(
            text.lines().all(|line| line.chars().count() <= WIDTH),
            "{text}"
        );
        assert!(text.ends_with(&format!("a{}b\n", " ".repeat(31))), "{text}");
    }
}
