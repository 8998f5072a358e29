"""Pages of a list by cursor: stable while rows arrive, and as fast at the end as at the start."""

from rest_framework.pagination import CursorPagination


class ByKey(CursorPagination):
    """`?page_size=` up to 1,000; `next` in the answer is the address of the next page, or null."""

    ordering = "pk"
    page_size = 100
    page_size_query_param = "page_size"
    max_page_size = 1000
