//! How the file of a feature declares its parameters: once, with type, default, range and documentation.

use super::document::Section;

/// The parameters of one feature.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Feature {
    /// Heading in the reference.
    pub(in crate::config) title: &'static str,
    /// What the feature is, a sentence.
    pub(in crate::config) about: &'static str,
    pub(in crate::config) parameters: &'static [Declaration],
}

/// One parameter, apart from its type.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Declaration {
    pub(in crate::config) section: Section,
    /// The only parameter with this name, in whatever section.
    pub(in crate::config) name: &'static str,
    /// What it takes, in words.
    pub(in crate::config) kind: &'static str,
    /// The default as TOML.
    pub(in crate::config) default: &'static str,
    pub(in crate::config) bounds: Option<Bounds>,
    pub(in crate::config) documentation: &'static str,
}

/// The range of a number, a size in bytes, or a time in seconds.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) struct Bounds {
    pub(in crate::config) least: u64,
    pub(in crate::config) most: u64,
    /// A value outside of the range that has a meaning of its own.
    pub(in crate::config) other: Option<u64>,
}

impl Bounds {
    pub(super) fn contain(self, quantity: u64) -> bool {
        (self.least..=self.most).contains(&quantity) || self.other == Some(quantity)
    }
}

/// Declares the parameters of a feature.
///
/// A line is `NAME: TYPE = DEFAULT in LEAST ..= MOST, or OTHER;`, its documentation above it. The range may be absent.
/// `[engine]` or `[queue]` in front names the table of the file that the parameter is in; without one it is a parameter of
/// Postfix's, at the top.
///
/// The struct has a field for each parameter, a constant `FEATURE` and a constructor `read`.
macro_rules! parameters {
    (
        $(#[doc = $about:literal])+
        pub struct $name:ident titled $title:literal;
        $(
            $(#[doc = $line:literal])+
            $([$table:ident])? $field:ident : $type:ty = $default:tt
                $(in $least:literal ..= $most:literal $(, or $other:literal)?)? ;
        )+
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            $( $(#[doc = $line])+ pub $field: $type, )+
        }

        impl $name {
            /// The declarations, in the order of the fields.
            pub(super) const FEATURE: $crate::config::reader::Feature = $crate::config::reader::Feature {
                title: $title,
                about: concat!($($about),+),
                parameters: &[ $( $crate::config::reader::Declaration {
                    section: $crate::config::reader::section!($($table)?),
                    name: stringify!($field),
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

            /// Reads all; `None` when the value of one is invalid, which the reader then knows.
            pub(super) fn read(reader: &mut $crate::config::reader::Reader<'_>) -> Option<Self> {
                let mut declarations = Self::FEATURE.parameters.iter();
                $( let $field = declarations.next().and_then(|declaration| reader.read(declaration)); )+
                Some(Self { $( $field: $field?, )+ })
            }

            /// Takes the values of `[engine]` and `[queue]` from `running`, and returns whether one was different.
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

/// The section that a table in front of a declaration names.
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

/// `Some` of what is given.
macro_rules! optional {
    () => {
        None
    };
    ($value:expr) => {
        Some($value)
    };
}
pub(in crate::config) use optional;
