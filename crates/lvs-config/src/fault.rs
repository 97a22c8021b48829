//! What makes a file unreadable, in the words that people search for.

use crate::diagnostic::Code;

/// The ways in which a line can be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    QuotationMismatch,
    UnexpectedArguments,
    EqualExpected,
    MissingArguments,
    BadHost,
    InvalidArgument,
    IntegerExpected,
    BooleanExpected,
    UnknownCommand,
    ListExpected,
    BadNetmask,
    Empty,
}

impl Fault {
    pub(crate) const fn message(self) -> &'static str {
        match self {
            Self::QuotationMismatch => "quotation mismatch",
            Self::UnexpectedArguments => "unexpected arguments",
            Self::EqualExpected => "equal (=) expected after command",
            Self::MissingArguments => "missing arguments",
            Self::BadHost => "invalid host name or ip address",
            Self::InvalidArgument => "invalid argument",
            Self::IntegerExpected => "integer expected",
            Self::BooleanExpected => "boolean expected",
            Self::UnknownCommand => "unknown command",
            Self::ListExpected => "list expected",
            Self::BadNetmask => "Bad subnet mask specified",
            Self::Empty => "Empty configuration",
        }
    }

    pub(crate) const fn code(self) -> Code {
        match self {
            Self::QuotationMismatch => Code::QuotationMismatch,
            Self::UnexpectedArguments => Code::UnexpectedArguments,
            Self::EqualExpected => Code::EqualExpected,
            Self::MissingArguments => Code::MissingArguments,
            Self::BadHost => Code::InvalidAddress,
            Self::InvalidArgument => Code::InvalidArgument,
            Self::IntegerExpected => Code::IntegerExpected,
            Self::BooleanExpected => Code::BooleanExpected,
            Self::UnknownCommand => Code::UnknownCommand,
            Self::ListExpected => Code::ListExpected,
            Self::BadNetmask => Code::BadNetmask,
            Self::Empty => Code::EmptyConfiguration,
        }
    }
}

/// A fault and its place on its line, as byte offsets in the line's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) fault: Fault,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// The first fault of a file: the reason why it has no configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct SyntaxError {
    /// The line, counted from 1; 0 for a file of zero bytes.
    pub line: usize,
    /// Where on the line, in bytes, counted from 1; 0 for a file of zero bytes.
    pub column: usize,
    /// How many bytes it concerns; 0 where something is missing.
    pub length: usize,
    /// What is wrong, in the words that all versions of the suite use.
    pub message: &'static str,
    /// The kind of fault.
    pub code: Code,
    /// What to do about it.
    pub hint: Option<String>,
}
