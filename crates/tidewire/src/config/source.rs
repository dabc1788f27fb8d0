use std::ops::Range;

/// The text of a configuration file, with the places nobody should see.
#[derive(Clone, Debug, Default)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) text: String,
    hidden: Vec<Range<usize>>,
}

/// A place in a file: line and column count from 1, the column in characters.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    pub file: String,
    pub line: usize,
    pub column: usize,
    /// The line, with secrets blotted out.
    pub snippet: String,
    /// How many characters are meant, from `column`.
    pub width: usize,
}

impl Source {
    pub(crate) fn new(name: String, text: String) -> Self {
        Self { name, text, hidden: Vec::new() }
    }

    /// Keeps what stands at `span` out of every snippet.
    pub(crate) fn hide(&mut self, span: Range<usize>) {
        self.hidden.push(span);
    }

    /// Hides all values. For a file that cannot be parsed, where nobody knows which are secrets.
    pub(crate) fn hide_values(&mut self) {
        let mut start = 0;
        for line in self.text.split_inclusive('\n') {
            let value = line.find('=').map_or(0, |equals| equals + 1);
            self.hidden.push(start + value..start + line.len());
            start += line.len();
        }
    }

    pub(crate) fn line_of(&self, offset: usize) -> usize {
        1 + self.text[..self.floor(offset)].matches('\n').count()
    }

    pub(crate) fn place(&self, span: &Range<usize>) -> Place {
        let offset = self.floor(span.start);
        let start = self.text[..offset].rfind('\n').map_or(0, |newline| newline + 1);
        let end = self.text[offset..].find('\n').map_or(self.text.len(), |length| offset + length);
        let until = self.floor(span.end).clamp(offset, end);
        Place {
            file: self.name.clone(),
            line: self.line_of(offset),
            column: 1 + self.text[start..offset].chars().count(),
            snippet: self.snippet(start..end),
            width: self.text[offset..until].chars().count().max(1),
        }
    }

    fn snippet(&self, line: Range<usize>) -> String {
        let is_hidden = |offset: usize| self.hidden.iter().any(|span| span.contains(&offset));
        let shown = |(at, letter): (usize, char)| {
            if is_hidden(line.start + at) && !letter.is_whitespace() { '*' } else { letter }
        };
        let text = self.text[line.clone()].char_indices().map(shown).collect::<String>();
        text.trim_end().to_owned()
    }

    /// The nearest character boundary at or before `offset`.
    fn floor(&self, offset: usize) -> usize {
        self.text.floor_char_boundary(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_counted_in_lines_and_characters() {
        let source = Source::new("a.toml".into(), "one\nzwölf = 12\n".into());

        let place = source.place(&(13..15));

        assert_eq!((place.line, place.column, place.width), (2, 9, 2));
        assert_eq!(place.snippet, "zwölf = 12");
    }

    #[test]
    fn what_is_hidden_is_blotted_out() {
        let mut source = Source::new("a.toml".into(), "secret = \"p4ss\" # mine\n".into());
        source.hide(9..15);

        assert_eq!(source.place(&(0..6)).snippet, "secret = ****** # mine");
    }

    #[test]
    fn a_place_at_the_end_of_the_text_is_on_its_last_line() {
        let source = Source::new("a.toml".into(), "a = ".into());

        assert_eq!(source.place(&(4..4)).column, 5);
        assert_eq!(source.place(&(99..100)).line, 1);
    }
}
