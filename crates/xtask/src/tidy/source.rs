//! A Rust file as the rules see it: what is code, and what of the code ships.

/// One Rust file.
pub(super) struct Source {
    pub(super) path: String,
    pub(super) text: String,
    /// The text with comments and literals blanked, line for line.
    pub(super) code: String,
    /// The code with the items under `#[cfg(test)]` blanked too; all blank in a file of tests.
    pub(super) product: String,
    /// Lines that ship, comments and empty lines included.
    pub(super) product_lines: usize,
    /// Lines of tests.
    pub(super) test_lines: usize,
}

impl Source {
    pub(super) fn new(path: &str, text: String) -> Self {
        let code = blank_comments_and_literals(&text);
        let lines = text.lines().count();
        let (product, test_lines) =
            if is_test(path) { (blank(&code), lines) } else { blank_tests(&code) };
        Self {
            path: path.to_owned(),
            text,
            code,
            product,
            product_lines: lines - test_lines,
            test_lines,
        }
    }

    /// The folder of the crate, `crates/tidewire-hub` for one.
    pub(super) fn package(&self) -> &str {
        let end = self.path.match_indices('/').map(|(at, _)| at).nth(1);
        let folder = &self.path[..end.unwrap_or(self.path.len())];
        folder.strip_prefix("crates/").unwrap_or("loadtest")
    }

    /// `path:line` of a byte of the text.
    pub(super) fn place(&self, offset: usize) -> String {
        let line = self.text[..offset].matches('\n').count() + 1;
        format!("{}:{line}", self.path)
    }
}

/// A contract suite, `conformance`, is a test that several crates run, so it lives in `src`.
fn is_test(path: &str) -> bool {
    ["/tests/", "/benches/", "/fuzz/", "/conformance/"].iter().any(|folder| path.contains(folder))
        || ["/tests.rs", "/conformance.rs"].iter().any(|file| path.ends_with(file))
}

/// Blanks every item under `#[cfg(test)]` and counts the lines it took.
fn blank_tests(code: &str) -> (String, usize) {
    let mut product = code.to_owned();
    let mut lines = 0;
    while let Some(start) = product.find("#[cfg(test)]") {
        let end = end_of_item(&product, start);
        let item = &product[start..end];
        lines += item.lines().count();
        let blanked = blank(item);
        product.replace_range(start..end, &blanked);
    }
    (product, lines)
}

/// Where the item that starts at `start` ends: at its `;`, or where its first brace closes.
fn end_of_item(code: &str, start: usize) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(start) {
        match byte {
            b';' if depth == 0 => return at + 1,
            b'{' => depth += 1,
            b'}' if depth <= 1 => return at + 1,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// Spaces in place of everything but line ends, byte for byte.
fn blank(text: &str) -> String {
    text.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect()
}

fn blank_comments_and_literals(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let hidden = hidden_length(rest, &code);
        if hidden == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            code.push_str(&blank(&rest[..hidden]));
            rest = &rest[hidden..];
        }
    }
    code
}

/// How many bytes of comment or literal `rest` starts with; `before` is the code so far.
fn hidden_length(rest: &str, before: &str) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment(rest);
    }
    let inside_word = before.ends_with(|last: char| last.is_alphanumeric() || last == '_');
    match rest.as_bytes()[0] {
        b'"' => quoted(rest, 1),
        b'\'' => character(rest),
        b'r' if !inside_word => raw_string(rest, 1),
        b'b' | b'c' if !inside_word => prefixed(rest),
        _ => 0,
    }
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let bytes = rest.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// A literal in double quotes whose content starts at `start`.
fn quoted(rest: &str, start: usize) -> usize {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(start) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A character literal; zero for a lifetime.
fn character(rest: &str) -> usize {
    let mut inner = rest[1..].char_indices();
    match inner.next() {
        Some((_, '\\')) => {
            // The escaped character may itself be a quote, so the search starts behind it.
            rest.get(3..).and_then(|tail| tail.find('\'')).map_or(0, |end| end + 4)
        }
        Some(_) => match inner.next() {
            Some((at, '\'')) => at + 2,
            _ => 0,
        },
        None => 0,
    }
}

/// `r"…"` or `r#"…"#`, whose `r` is the byte before `start`; zero for a raw identifier.
fn raw_string(rest: &str, start: usize) -> usize {
    let hashes = rest[start..].bytes().take_while(|byte| *byte == b'#').count();
    if rest.as_bytes().get(start + hashes) != Some(&b'"') {
        return 0;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    let content = start + hashes + 1;
    rest[content..].find(&close).map_or(rest.len(), |end| content + end + close.len())
}

/// `b"…"`, `b'…'`, `br"…"` and the same of `c`.
fn prefixed(rest: &str) -> usize {
    match rest.as_bytes().get(1) {
        Some(b'"') => quoted(rest, 2),
        Some(b'\'') => match character(&rest[1..]) {
            0 => 0,
            length => length + 1,
        },
        Some(b'r') => raw_string(rest, 2),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::Source;

    #[test]
    fn comments_and_literals_are_not_code() {
        let text = "let a = \"topic \\\" room\"; // topic\n/* room /* topic */ */ let b = 'x';\n";

        let source = Source::new("crates/x/src/lib.rs", text.to_owned());

        assert!(!source.code.contains("topic"));
        assert!(!source.code.contains("room"));
        assert!(source.code.contains("let b ="));
        assert_eq!(source.code.len(), text.len());
    }

    #[test]
    fn quotes_in_raw_strings_characters_and_lifetimes_do_not_confuse() {
        let text = concat!(
            "let a = r#\"one \" topic\"#; let b = b'\\''; let c = b\"room\"; let d = '\"';\n",
            "fn f<'a>(x: &'a str) -> char { '\\\\' } fn r#type(bar: &str) {}\n",
        );

        let source = Source::new("crates/x/src/lib.rs", text.to_owned());

        assert!(!source.code.contains("topic"));
        assert!(!source.code.contains("room"));
        assert!(source.code.contains("fn f<'a>(x: &'a str)"));
        assert!(source.code.contains("fn r#type(bar: &str) {}"));
    }

    #[test]
    fn a_test_module_is_neither_product_nor_counted_as_such() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() { { } }\n}\nfn c() {}\n";

        let source = Source::new("crates/x/src/lib.rs", text.to_owned());

        assert!(source.product.contains("fn a") && source.product.contains("fn c"));
        assert!(!source.product.contains("fn b"));
        assert_eq!((source.product_lines, source.test_lines), (2, 4));
    }

    #[test]
    fn a_declaration_of_a_test_file_ends_at_its_semicolon() {
        let text = "#[cfg(test)]\nmod tests;\nfn a() {}\n";

        let source = Source::new("crates/x/src/lib.rs", text.to_owned());

        assert!(source.product.contains("fn a() {}"));
        assert_eq!((source.product_lines, source.test_lines), (1, 2));
    }

    #[test]
    fn a_file_of_tests_has_no_product() {
        let source = Source::new("crates/x/tests/it/main.rs", "fn a() {}\n".to_owned());

        assert_eq!((source.product_lines, source.test_lines), (0, 1));
        assert_eq!(source.product.trim(), "");
    }

    #[test]
    fn a_place_names_the_package_and_the_line() {
        let source = Source::new("crates/tidewire-hub/src/lib.rs", "a\nb\n".to_owned());

        assert_eq!(source.package(), "tidewire-hub");
        assert_eq!(source.place(2), "crates/tidewire-hub/src/lib.rs:2");
    }
}
