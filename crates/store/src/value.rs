//! How types of ours look in a column: numbers that SQLite's signed integers cannot hold, and JSON.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, Value, ValueRef};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

/// A UUID or another 128 bit id as text.
pub(crate) struct Text<T>(pub(crate) T);

impl FromSql for Text<Uuid> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Ok(Self(value.as_str()?.parse().map_err(|error| FromSqlError::Other(Box::new(error)))?))
    }
}

impl rusqlite::ToSql for Text<Uuid> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Owned(Value::Text(self.0.hyphenated().to_string())))
    }
}

impl FromSql for Text<u128> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Ok(Self(
            u128::from_str_radix(value.as_str()?, 16)
                .map_err(|error| FromSqlError::Other(Box::new(error)))?,
        ))
    }
}

impl rusqlite::ToSql for Text<u128> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Owned(Value::Text(format!("{:032x}", self.0))))
    }
}

/// Anything that serializes, as JSON text.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromSql for Json<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Ok(Self(serde_json::from_str(value.as_str()?).map_err(|error| FromSqlError::Other(Box::new(error)))?))
    }
}

impl<T: Serialize> rusqlite::ToSql for Json<T> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let text = serde_json::to_string(&self.0)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        Ok(ToSqlOutput::Owned(Value::Text(text)))
    }
}
