#compdef cutaway
# Completion for zsh: cutaway completion zsh > "${fpath[1]}/_cutaway"

_cutaway() {
    local -a found
    local candidate
    for candidate in "${(@f)$(cutaway __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        case $candidate in
            :files) _files ;;
            :directories) _files -/ ;;
            ?*) found+=("$candidate") ;;
        esac
    done
    (( ${#found} )) && compadd -Q -S '' -q -a found
}

if [[ $funcstack[1] == _cutaway ]]; then
    _cutaway "$@"
else
    compdef _cutaway cutaway
fi
