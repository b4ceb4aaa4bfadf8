//! Fronts as Parquet: one row group, plain types (UTF-8 text, f64, i64, bool), no compression.

use std::sync::Arc;

use parquet::basic::{LogicalType, Repetition, Type as Physical};
use parquet::column::writer::ColumnWriterImpl;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::{Type, TypePtr};

use super::columns::{self, Cells, Column};
use crate::error::Result;
use crate::table::Front;

pub(super) fn encode(front: &Front) -> Result<Vec<u8>> {
    let columns = columns::of(front);
    let fields = columns.iter().map(field).collect::<Result<Vec<TypePtr>>>()?;
    let schema = Arc::new(Type::group_type_builder("front").with_fields(fields).build()?);
    let mut file = SerializedFileWriter::new(Vec::new(), schema, Arc::new(WriterProperties::builder().build()))?;
    let mut group = file.next_row_group()?;
    let mut columns = columns.into_iter();
    while let (Some(mut writer), Some(column)) = (group.next_column()?, columns.next()) {
        write(&mut writer, column.cells)?;
        writer.close()?;
    }
    group.close()?;
    Ok(file.into_inner()?)
}

fn field(column: &Column) -> Result<TypePtr> {
    let (physical, logical, repetition) = match column.cells {
        Cells::Text(_) => (Physical::BYTE_ARRAY, Some(LogicalType::String), Repetition::REQUIRED),
        Cells::OptionalText(_) => (Physical::BYTE_ARRAY, Some(LogicalType::String), Repetition::OPTIONAL),
        Cells::Number(_) => (Physical::DOUBLE, None, Repetition::REQUIRED),
        Cells::OptionalNumber(_) => (Physical::DOUBLE, None, Repetition::OPTIONAL),
        Cells::Whole(_) => (Physical::INT64, None, Repetition::REQUIRED),
        Cells::Flag(_) => (Physical::BOOLEAN, None, Repetition::REQUIRED),
    };
    let builder = Type::primitive_type_builder(&column.name, physical);
    Ok(Arc::new(builder.with_logical_type(logical).with_repetition(repetition).build()?))
}

fn write(writer: &mut SerializedColumnWriter<'_>, cells: Cells) -> Result<()> {
    match cells {
        Cells::Text(cells) => {
            let cells: Vec<ByteArray> = cells.into_iter().map(|c| ByteArray::from(c.into_bytes())).collect();
            required::<ByteArrayType>(writer.typed(), &cells)
        }
        Cells::OptionalText(cells) => {
            let cells = cells.into_iter().map(|c| c.map(|c| ByteArray::from(c.into_bytes())));
            optional::<ByteArrayType>(writer.typed(), cells)
        }
        Cells::Number(cells) => required::<DoubleType>(writer.typed(), &cells),
        Cells::OptionalNumber(cells) => optional::<DoubleType>(writer.typed(), cells.into_iter()),
        Cells::Whole(cells) => {
            let cells: Vec<i64> = cells.into_iter().map(i64::from).collect();
            required::<Int64Type>(writer.typed(), &cells)
        }
        Cells::Flag(cells) => required::<BoolType>(writer.typed(), &cells),
    }
}

fn required<T: DataType>(writer: &mut ColumnWriterImpl<'_, T>, cells: &[T::T]) -> Result<()> {
    writer.write_batch(cells, None, None)?;
    Ok(())
}

/// Missing cells have the definition level 0 and no value.
fn optional<T: DataType>(
    writer: &mut ColumnWriterImpl<'_, T>,
    cells: impl Iterator<Item = Option<T::T>>,
) -> Result<()> {
    let (mut values, mut levels) = (Vec::new(), Vec::new());
    for cell in cells {
        levels.push(i16::from(cell.is_some()));
        values.extend(cell);
    }
    writer.write_batch(&values, Some(&levels), None)?;
    Ok(())
}
