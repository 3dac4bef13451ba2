"""Human evaluation: a blinded study as one page, and what people's answers say."""
