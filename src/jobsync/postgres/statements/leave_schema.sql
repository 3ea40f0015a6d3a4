-- Set again what enter_schema found.
select set_config('search_path', $1::text, true), set_config('role', $2::text, true)
