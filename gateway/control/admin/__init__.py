"""The admin API: OpenAI's organization API, a file for each noun of its URLs.

door.py lets requests in; asked.py is a request as nouns see it, pages.py what lists answer, routes.py how a noun says
what it serves; nouns.py names all of them. A noun's file knows the SQL of its own tables.
"""
