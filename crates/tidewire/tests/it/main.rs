//! The program as its operators meet it: configuration, command line, documentation.

mod command;
mod config;
mod dev;
mod docs;
mod help;
mod problems;
mod stranger;
mod token;
