//! What is wrong with the settings, and where it was said.

use std::fmt;
use std::path::PathBuf;

/// Where a setting was given. Ordered as the mistakes are listed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    File {
        path: PathBuf,
        /// From 1; none when the mistake is not in one line.
        line: Option<usize>,
    },
    /// Changed while the appliance ran.
    Changed {
        path: PathBuf,
        line: Option<usize>,
    },
    Environment {
        name: String,
    },
    Flag {
        name: &'static str,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: Some(line) } | Self::Changed { path, line: Some(line) } => {
                write!(f, "{}:{line}", path.display())
            }
            Self::File { path, line: None } | Self::Changed { path, line: None } => write!(f, "{}", path.display()),
            Self::Environment { name } => f.write_str(name),
            Self::Flag { name } => f.write_str(name),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    pub source: Source,
    /// A sentence of its own, without the source.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.source, self.message)
    }
}

/// All mistakes found in one reading; never empty. Shown one a line under a headline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl std::error::Error for Mistakes {}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("the configuration has a mistake:")?,
            many => write!(f, "the configuration has {many} mistakes:")?,
        }
        self.0.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
    }
}
