//! The words everyone speaks: ids, resources, events, errors, pages
