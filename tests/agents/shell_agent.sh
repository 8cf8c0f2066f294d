#!/bin/sh
# An agent in thirty lines: it answers each prompt with its own words, and sends a message first when asked to "say" one.
# Lines come as one JSON object each, ASCII only and without spaces between fields, so sed can read what it needs.
frame() { printf '%s\n' ---PYNCHY_OUTPUT_START--- "$1" ---PYNCHY_OUTPUT_END---; }
field() { printf '%s\n' "$line" | sed -n "s/.*\"$1\":\"\(\([^\"\\\\]\|\\\\.\)*\)\".*/\1/p"; } # stays escaped, as it came
number=0
ask() { # one command: written aside, renamed into place, answered on stdin
  number=$((number + 1))
  id=$(printf '%016x%016x' "$(date +%s%N)" "$number")
  printf '%s' "$1" >"$commands/.$id.tmp" && mv "$commands/.$id.tmp" "$commands/$id.json"
  while read -r line; do
    case $line in
    '{"type":"answer",'*"\"$id\""*) return ;;
    '{"type":"close"'*) closing=yes ;;
    esac
  done
}
serve() {
  id=$(field id) text=$(field text)
  frame "{\"type\":\"accepted\",\"prompts\":[\"$id\"]}"
  case $text in
  'say '*) asked=$id && ask "{\"type\":\"send_message\",\"args\":{\"text\":\"${text#say }\"}}" && text=$(field text) id=$asked ;;
  esac
  frame "{\"type\":\"result\",\"text\":\"$text\",\"answered\":[\"$id\"],\"session\":null}"
  frame '{"type":"idle"}'
}
commands=${PYNCHY_WORKSPACE:-/workspace}/ipc/commands closing=
read -r line && frame '{"type":"ready"}'
case $line in *'"prompts":[{'*) line=${line#*'"prompts":['} && serve ;; esac
while [ -z "$closing" ] && read -r line; do
  case $line in '{"type":"prompt",'*) serve ;; '{"type":"close"'*) exit 0 ;; esac
done
