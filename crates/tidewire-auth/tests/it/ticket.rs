use proptest::prelude::*;
use tidewire_auth::Ticket;

#[test]
fn a_ticket_is_read_as_it_was_given_and_does_not_show_itself() {
    let ticket = Ticket::draw();

    assert_eq!(Ticket::parse(&ticket.expose()), Some(ticket.clone()));
    assert_eq!(ticket.expose().len(), 22);
    assert_eq!(format!("{ticket:?}"), "Ticket(..)");
}

#[test]
fn no_two_tickets_are_alike_and_neither_is_what_they_are_known_by() {
    let tickets: Vec<_> = (0..1_000).map(|_| Ticket::draw()).collect();

    let texts: std::collections::HashSet<_> = tickets.iter().map(Ticket::expose).collect();
    let digests: std::collections::HashSet<_> = tickets.iter().map(Ticket::digest).collect();
    assert_eq!((texts.len(), digests.len()), (1_000, 1_000));
}

#[test]
fn there_is_one_text_for_each() {
    // The last character has four bits that mean nothing.
    let text = format!("{}A", "A".repeat(21));
    let alike = format!("{}B", "A".repeat(21));

    assert!(Ticket::parse(&text).is_some());
    assert_eq!(Ticket::parse(&alike), None);
    assert_eq!(Ticket::parse(&format!("{text}=")), None);
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in ".{0,40}") {
        if let Some(ticket) = Ticket::parse(&text) {
            prop_assert_eq!(ticket.expose(), text);
        }
    }
}
