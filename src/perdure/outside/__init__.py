"""Ready-made references to what is kept outside of a store: files, open files, environment, secrets, ORM instances.

- `File`, `Environment` and `Secret` are values that say themselves what they are stored as; they need no registration.
- `open_files` and `mapped` register classes that are not perdure's: only who calls them gets this.
"""

from perdure.outside.files import File
from perdure.outside.named import Environment, Secret
from perdure.outside.open_files import open_files
from perdure.outside.orm import mapped

__all__ = ["Environment", "File", "Secret", "mapped", "open_files"]
