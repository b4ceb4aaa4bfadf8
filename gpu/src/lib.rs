//! tracker-gpu
