//! tracker-lab
