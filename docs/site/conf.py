"""How Sphinx makes the site. `build.py` calls it with the sources that it has put together."""

from emdstore import __version__

project = "emdstore"
author = "The emdstore developers"
copyright = f"{author}; Apache-2.0"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "index"
smartquotes = False  # options begin with two hyphens
default_role = "py:obj"

myst_enable_extensions = ["html_image"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"emdstore {version}"
html_copy_source = False
html_theme_options = {"top_of_page_buttons": []}
