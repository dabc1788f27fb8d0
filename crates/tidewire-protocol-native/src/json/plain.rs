//! A publish command as programs write it: without white space or escapes, and with nothing in it
//! that this version does not know.
//!
//! Nearly all that clients send is that, and to read it straight through takes a third of what it
//! takes serde. Everything else, and everything that is wrong, is left to serde.

use std::borrow::Cow;

use serde_json::Deserializer;
use serde_json::value::RawValue;

use super::command_object::{CommandBody, CommandObject, PublishBody};
use super::object::Str;

/// What serde would read from `text`, or `None` if only serde can tell.
pub(super) fn publish(text: &str) -> Option<CommandObject<'_>> {
    let mut rest = Rest(text);
    rest.skip("{")?;
    let mut id = 0;
    if rest.skip("\"id\":").is_some() {
        id = rest.number()?;
        rest.skip(",")?;
    }
    rest.skip("\"publish\":{")?;
    let body = rest.publish_body()?;
    rest.skip("}")?;
    let body = Some(CommandBody::Publish(body));
    rest.0.is_empty().then_some(CommandObject { id, body, commands: 1 })
}

/// What has not been read yet.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn skip(&mut self, literal: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(literal)?;
        Some(())
    }

    /// Members in any order, each once, and the brace behind them.
    fn publish_body(&mut self) -> Option<PublishBody<'a>> {
        let (mut channel, mut id, mut data) = (None, None, None);
        loop {
            if channel.is_none() && self.skip("\"channel\":\"").is_some() {
                channel = Some(self.string()?);
            } else if id.is_none() && self.skip("\"id\":\"").is_some() {
                id = Some(self.string()?);
            } else {
                self.skip("\"data\":").filter(|()| data.is_none())?;
                data = Some(self.value()?);
            }
            if self.skip("}").is_some() {
                let channel = channel.unwrap_or_default();
                return Some(PublishBody { channel, id, data, binary: None });
            }
            self.skip(",")?;
        }
    }

    /// A string whose opening quote has been read.
    fn string(&mut self) -> Option<Str<'a>> {
        let ends = |byte: u8| ENDS_PLAIN_TEXT[usize::from(byte)];
        let (text, rest) = self.0.split_at_checked(self.0.bytes().position(ends)?)?;
        self.0 = rest.strip_prefix('"')?;
        Some(Str(Cow::Borrowed(text)))
    }

    /// A whole number of at most [`DIGITS`] digits.
    fn number(&mut self) -> Option<u32> {
        let digits = self.0.bytes().take_while(u8::is_ascii_digit).count();
        let (text, rest) = self.0.split_at_checked(digits)?;
        let may_start = !text.starts_with('0') || digits == 1;
        if !(1..=DIGITS).contains(&digits) || !may_start {
            return None;
        }
        self.0 = rest;
        Some(text.bytes().fold(0, |number, digit| number * 10 + u32::from(digit - b'0')))
    }

    fn value(&mut self) -> Option<&'a RawValue> {
        let mut values = Deserializer::from_str(self.0).into_iter::<&RawValue>();
        let value = values.next()?.ok()?;
        self.0 = self.0.get(values.byte_offset()..)?;
        Some(value)
    }
}

/// Of each byte, whether it stands in no string that is plain: the quote behind one is one of them.
const ENDS_PLAIN_TEXT: [bool; 256] = {
    let mut ends = [false; 256];
    let mut byte = 0;
    while byte < b' ' {
        ends[byte as usize] = true;
        byte += 1;
    }
    ends[b'"' as usize] = true;
    ends[b'\\' as usize] = true;
    ends
};

/// So many always fit into 32 bits.
const DIGITS: usize = 9;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What was read, in full.
    fn told(command: &CommandObject<'_>) -> (u32, usize, String) {
        let body = serde_json::to_string(&command.body).expect("it was JSON");
        (command.id, command.commands, body)
    }

    #[track_caller]
    fn check(text: &str) -> bool {
        let Some(command) = publish(text) else { return false };
        let by_serde: CommandObject<'_> = serde_json::from_str(text).expect("serde reads it, too");
        assert_eq!(told(&command), told(&by_serde), "{text}");
        true
    }

    #[test]
    fn what_programs_write_is_read_as_serde_reads_it() {
        for text in [
            r#"{"id":4294967,"publish":{"channel":"größe/1","id":"a b","data":{"a":[1, "}"]}}}"#,
            r#"{"id":0,"publish":{"data":null,"id":"","channel":""}}"#,
            r#"{"publish":{"data":-1.5e3,"channel":"a"}}"#,
            r#"{"publish":{"channel":"a","data":"\"}\u00e9"}}"#,
            r#"{"publish":{"id":"1"}}"#,
        ] {
            assert!(check(text), "{text}");
        }
    }

    #[test]
    fn everything_else_is_left_to_serde() {
        for text in [
            "",
            "{",
            "[]",
            r#"{"id":1,"ping":{}}"#,
            r#"{"id":01,"publish":{"data":1}}"#,
            r#"{"id":,"publish":{"data":1}}"#,
            r#"{"id":4294967296,"publish":{"data":1}}"#,
            r#"{"id":1,"id":1,"publish":{"data":1}}"#,
            r#"{"publish":{"data":1},"id":1}"#,
            r#"{"publish":{"data":1}} "#,
            r#"{"publish":{"data":1}}x"#,
            r#"{"publish":{"data":1 }}"#,
            r#"{"publish":{}}"#,
            r#"{"publish":{"data":1,}}"#,
            r#"{"publish":{"data":1,"data":1}}"#,
            r#"{"publish":{"channel":"a","channel":"a"}}"#,
            r#"{"publish":{"channel":"\u0061","data":1}}"#,
            "{\"publish\":{\"channel\":\"a\u{1}\",\"data\":1}}",
            r#"{"publish":{"channel":null}}"#,
            r#"{"publish":{"binary":"AA=="}}"#,
            r#"{"publish":{"data":nul}}"#,
            r#"{"publish":{"data":1"channel":"a"}}"#,
            r#"{"publish":{"data":{"a":1}"#,
        ] {
            assert!(!check(text), "{text}");
        }
    }

    /// Texts that are publish commands or nearly so.
    fn texts() -> impl Strategy<Value = String> {
        let member = prop_oneof![
            "\"channel\":\"[a-zé/]{0,4}\"",
            "\"id\":\"[ -~]{0,4}\"",
            "\"id\":\"[^\"]{0,3}\"",
            "\"data\":[0-9.e{}\\[\\]\",:a ]{1,8}",
            "\"data\":\\{\"[a-z]\":\\[1, \"[^\\\\]\"\\]\\}",
            "[\"a-z:,{}]{0,4}",
        ];
        let members = proptest::collection::vec(member, 0..4).prop_map(|all| all.join(","));
        let head = prop_oneof!["", "\"id\":[0-9]{0,11},", "\"id\":-?[0-9],"];
        (head, members, prop_oneof![Just("}}"), Just("}"), Just("}} "), Just(",}}")])
            .prop_map(|(head, members, tail)| format!("{{{head}\"publish\":{{{members}{tail}"))
    }

    proptest! {
        #[test]
        fn nothing_is_read_otherwise_than_serde_reads_it(text in texts()) {
            check(&text);
        }
    }
}
