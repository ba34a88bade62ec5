//! State detection: findings of single windows to a persistent one (k of n). Pure.
