//! Declares the parameters of a feature, each once, with type, default, range and documentation.

use super::document::Section;

/// Parameters of a feature.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Feature {
    /// Heading in the reference.
    pub(in crate::config) title: &'static str,
    /// Description of the feature, one sentence.
    pub(in crate::config) about: &'static str,
    pub(in crate::config) parameters: &'static [Declaration],
}

/// A parameter without its type.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Declaration {
    pub(in crate::config) section: Section,
    /// Name, unique across sections.
    pub(in crate::config) name: &'static str,
    /// Name of the type, for the reference.
    pub(in crate::config) kind: &'static str,
    /// Default value as TOML.
    pub(in crate::config) default: &'static str,
    pub(in crate::config) bounds: Option<Bounds>,
    pub(in crate::config) documentation: &'static str,
}

/// Range of a number, a size in bytes, or a time in seconds.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Bounds {
    pub(in crate::config) least: u64,
    pub(in crate::config) most: u64,
    /// Special value outside the range.
    pub(in crate::config) other: Option<u64>,
}

impl Bounds {
    pub(super) fn contain(self, quantity: u64) -> bool {
        (self.least..=self.most).contains(&quantity) || self.other == Some(quantity)
    }
}

/// Declares the parameters of a feature.
///
/// A line is `NAME: TYPE = DEFAULT in LEAST ..= MOST, or OTHER;`, preceded by its documentation. The range is optional. The
/// prefix `[engine]` or `[queue]` names the table of the file that holds the parameter; without it the parameter is one of
/// Postfix's, at the top of the file. `NAME as "OTHER NAME"` names a parameter whose name cannot be that of a field.
///
/// The struct has one field per parameter, a constant `FEATURE` and a constructor `read`.
macro_rules! parameters {
    (
        $(#[doc = $about:literal])+
        pub struct $name:ident titled $title:literal;
        $(
            $(#[doc = $line:literal])+
            $([$table:ident])? $field:ident $(as $given:literal)? : $type:ty = $default:tt
                $(in $least:literal ..= $most:literal $(, or $other:literal)?)? ;
        )+
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            $( $(#[doc = $line])+ pub $field: $type, )+
        }

        impl $name {
            /// Declarations in the order of the fields.
            pub(super) const FEATURE: $crate::config::reader::Feature = $crate::config::reader::Feature {
                title: $title,
                about: concat!($($about),+),
                parameters: &[ $( $crate::config::reader::Declaration {
                    section: $crate::config::reader::section!($($table)?),
                    name: $crate::config::reader::name!($field $($given)?),
                    kind: <$type as $crate::config::value::Setting>::KIND,
                    default: stringify!($default),
                    bounds: $crate::config::reader::optional!($($crate::config::reader::Bounds {
                        least: $least,
                        most: $most,
                        other: $crate::config::reader::optional!($($other)?),
                    })?),
                    documentation: concat!($($line),+),
                }, )+ ],
            };

            /// Reads all parameters. Returns `None` if a value is invalid; the reader has the error.
            pub(super) fn read(reader: &mut $crate::config::reader::Reader<'_>) -> Option<Self> {
                let mut declarations = Self::FEATURE.parameters.iter();
                $( let $field = declarations.next().and_then(|declaration| reader.read(declaration)); )+
                Some(Self { $( $field: $field?, )+ })
            }

            /// Keeps the values of `[engine]` and `[queue]` of `running`. Returns whether one differed.
            pub(super) fn keep_started(&mut self, running: &Self) -> bool {
                let mut was_different = false;
                $( if $crate::config::reader::section!($($table)?).is_for_start() && self.$field != running.$field {
                    self.$field = running.$field.clone();
                    was_different = true;
                } )+
                was_different
            }
        }
    };
}
pub(in crate::config) use parameters;

/// Maps the prefix of a declaration to its section.
macro_rules! section {
    () => {
        $crate::config::reader::Section::Top
    };
    (engine) => {
        $crate::config::reader::Section::Engine
    };
    (queue) => {
        $crate::config::reader::Section::Queue
    };
}
pub(in crate::config) use section;

/// The name of a parameter: that of its field, or another one.
macro_rules! name {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $given:literal) => {
        $given
    };
}
pub(in crate::config) use name;

/// `Some` of the tokens, or `None` without any.
macro_rules! optional {
    () => {
        None
    };
    ($value:expr) => {
        Some($value)
    };
}
pub(in crate::config) use optional;
