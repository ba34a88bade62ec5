//! REST routes by resource; HTTP types stay here.
