from serve_app.cli.app import main

main()
