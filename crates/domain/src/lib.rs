//! One guest: lifecycle, job slot and admission policy.
