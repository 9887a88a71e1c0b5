# Completion for fish: cutaway completion fish | source

function __cutaway_complete
    set -l words (commandline --tokenize --cut-at-cursor)
    set -l current (commandline --current-token --cut-at-cursor)
    for candidate in (cutaway __complete -- $words[2..] "$current" 2>/dev/null)
        switch $candidate
            case :files
                __fish_complete_path "$current"
            case :directories
                __fish_complete_directories "$current"
            case '*'
                echo $candidate
        end
    end
end

complete --command cutaway --no-files --arguments '(__cutaway_complete)'
