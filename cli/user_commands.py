"""The options of `seapost user …`. What the commands do is cli/users.py, imported when one runs."""

import argparse

from cli.places import Places


def add(parser: argparse.ArgumentParser) -> None:
    """The commands and their options."""
    commands = parser.add_subparsers(required=True, metavar="add | del | passwd | list")
    parent = argparse.ArgumentParser(add_help=False)
    parent.add_argument("--state", metavar="DIR", default=argparse.SUPPRESS, help="the state directory")
    secret = argparse.ArgumentParser(add_help=False)
    how = secret.add_mutually_exclusive_group()
    how.add_argument("--password-stdin", action="store_true", help="the password is the first line of standard input")
    how.add_argument("--random", action="store_true", help="make a password up and print it")

    making = commands.add_parser("add", parents=[parent, secret], help="make an account")
    making.add_argument("name")
    making.set_defaults(command=_add)
    ending = commands.add_parser("del", parents=[parent], help="end an account; its home stays")
    ending.add_argument("name")
    ending.add_argument("--remove-home", action="store_true", help="remove the home too, with all mail in it; asks")
    ending.add_argument("--yes", action="store_true", help="do not ask")
    ending.set_defaults(command=_delete)
    changing = commands.add_parser("passwd", parents=[parent, secret], help="give an account another password")
    changing.add_argument("name")
    changing.set_defaults(command=_passwd)
    listing = commands.add_parser("list", parents=[parent], help="who gets mail")
    listing.add_argument("--json", action="store_true", help="an object a line: name, uid, gid, home")
    listing.set_defaults(command=_list)


def _add(places: Places, options: argparse.Namespace) -> int:
    from cli import users

    return users.add(places, options)


def _delete(places: Places, options: argparse.Namespace) -> int:
    from cli import users

    return users.delete(places, options)


def _passwd(places: Places, options: argparse.Namespace) -> int:
    from cli import users

    return users.passwd(places, options)


def _list(places: Places, options: argparse.Namespace) -> int:
    from cli import users

    return users.show(places, options)
